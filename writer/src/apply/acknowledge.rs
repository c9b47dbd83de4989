//! What may be acknowledged: with `synchronous_commit = off` the target has committed more than it has flushed, and only what it has
//! flushed may move the slot.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pg::Lsn;
use pipeline::Durable;

/// Commits whose WAL is not known to be on the target's disk.
pub struct Unflushed {
    /// (end LSN on the source, the target's insert position after the commit)
    commits: VecDeque<(Lsn, Lsn)>,
    durable: Durable,
    /// Since when the oldest one waits.
    since: Option<Instant>,
}

/// Commits that wait longer than this are flushed by a synchronous commit: another session's unfinished WAL can keep the target's
/// flush position behind for ever.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// The same where another session was asked to flush and does not answer.
pub const LONG_PATIENCE: Duration = Duration::from_secs(2);

impl Unflushed {
    /// `flushed`: what is known to be on the target's disk.
    pub fn new(flushed: Lsn) -> Self {
        Unflushed { commits: VecDeque::new(), durable: Durable { applied: flushed, flushed }, since: None }
    }

    pub fn durable(&self) -> Durable {
        self.durable
    }

    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// A commit, the target's insert position after it, and the target's flush position.
    pub fn committed(&mut self, end_lsn: Lsn, inserted: Lsn, flushed: Lsn) {
        self.durable.applied = self.durable.applied.max(end_lsn);
        self.commits.push_back((end_lsn, inserted));
        self.since.get_or_insert_with(Instant::now);
        while let Some((end_lsn, inserted)) = self.commits.front().copied()
            && inserted <= flushed
        {
            self.commits.pop_front();
            self.durable.flushed = self.durable.flushed.max(end_lsn);
            self.since = (!self.commits.is_empty()).then(Instant::now);
        }
    }

    /// A synchronous commit: everything up to `end_lsn` is on disk.
    pub fn flushed(&mut self, end_lsn: Lsn) {
        self.commits.clear();
        self.since = None;
        self.durable = Durable {
            applied: self.durable.applied.max(end_lsn),
            flushed: self.durable.flushed.max(self.durable.applied).max(end_lsn),
        };
    }

    /// Everything that was applied up to `end_lsn` is on disk.
    pub fn flushed_to(&mut self, end_lsn: Lsn) {
        while self.commits.front().is_some_and(|(end, _)| *end <= end_lsn) {
            self.commits.pop_front();
        }
        self.since = (!self.commits.is_empty()).then(Instant::now);
        self.durable.flushed = self.durable.flushed.max(end_lsn.min(self.durable.applied));
    }

    /// Has the oldest commit waited for so long?
    pub fn overdue(&self, patience: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_flushed_is_acknowledged() {
        let lsn = Lsn::new;
        let mut unflushed = Unflushed::new(lsn(5));
        unflushed.committed(lsn(10), lsn(1000), lsn(900));
        unflushed.committed(lsn(20), lsn(1100), lsn(1000));
        assert_eq!(unflushed.durable(), Durable { applied: lsn(20), flushed: lsn(10) });
        unflushed.flushed(lsn(20));
        assert_eq!(unflushed.durable(), Durable { applied: lsn(20), flushed: lsn(20) });
        assert!(unflushed.is_empty() && !unflushed.overdue(Duration::ZERO));
    }

    #[test]
    fn another_session_flushes_what_it_was_asked_for() {
        let lsn = Lsn::new;
        let mut unflushed = Unflushed::new(lsn(5));
        unflushed.committed(lsn(10), lsn(1000), lsn(900));
        unflushed.committed(lsn(20), lsn(1100), lsn(900));
        unflushed.flushed_to(lsn(10));
        assert_eq!(unflushed.durable(), Durable { applied: lsn(20), flushed: lsn(10) });
        unflushed.flushed_to(lsn(30));
        assert_eq!(unflushed.durable(), Durable { applied: lsn(20), flushed: lsn(20) });
        assert!(unflushed.is_empty());
    }
}
