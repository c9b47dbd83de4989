//! Where the source's WAL comes from: after a promotion it continues that of another server, up to the point where they part.
//!
//! Positions alone don't tell: a standby that lacked the last changes has WAL beyond them soon. Its history says where it left the
//! timeline of before, and what lies behind that point there never happened here.
//! <https://www.postgresql.org/docs/current/protocol-replication.html> (`TIMELINE_HISTORY`)

use pg::{Lsn, Result};

use super::ReplicationConnection;

/// Where a timeline that this server's WAL comes from ended for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fork {
    pub timeline: u32,
    pub end: Lsn,
}

impl ReplicationConnection {
    /// The ancestors of a timeline of this server.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<Fork>> {
        // The first timeline has no history.
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let rows = self.simple(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
        Ok(parse(content.as_deref().unwrap_or_default()))
    }
}

/// Lines of timeline, position and reason, separated by white space; `#` begins a comment.
fn parse(content: &str) -> Vec<Fork> {
    content
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Fork { timeline: words.next()?.parse().ok()?, end: words.next()?.parse().ok()? })
        })
        .collect()
}

/// How a timeline and a position on it relate to a server that is on another timeline now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Descent {
    /// Everything up to the position is part of its history.
    Contains,
    /// It left that timeline before the position.
    Parted(Lsn),
    /// It never was on that timeline.
    Stranger,
}

/// Does the history contain what lies on `timeline` up to `position`?
#[must_use]
pub fn descent(history: &[Fork], timeline: u32, position: Lsn) -> Descent {
    match history.iter().find(|fork| fork.timeline == timeline) {
        Some(fork) if position <= fork.end => Descent::Contains,
        Some(fork) => Descent::Parted(fork.end),
        None => Descent::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_fork_never_happened() {
        let history = parse(
            "1\t0/3000060\tno recovery target specified\n\n# a comment\n2\t0/5000000\tbefore 2026-01-01 00:00:00+00\n",
        );
        assert_eq!(history.len(), 2);
        let lsn = |text: &str| text.parse::<Lsn>().unwrap();
        assert_eq!(descent(&history, 1, lsn("0/3000060")), Descent::Contains);
        assert_eq!(descent(&history, 1, lsn("0/3000061")), Descent::Parted(lsn("0/3000060")));
        assert_eq!(descent(&history, 2, lsn("0/4000000")), Descent::Contains);
        assert_eq!(descent(&history, 3, lsn("0/1")), Descent::Stranger);
        assert_eq!(parse("nonsense"), []);
    }
}
