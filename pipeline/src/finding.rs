//! What a look at the databases found: the unit of `walferry check`, and of every refusal before a run.
//!
//! Both sides list all they find at once. A finding never carries a row's value or a password, and one that refuses always says
//! which command or SQL fixes it.

use pg::{Class, Error};
use serde::{Deserialize, Serialize};

/// What a finding means for a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The run would stop, or lose or guess something: it does not start.
    Refuse,
    /// The run starts; somebody should know.
    Warning,
    /// How it is.
    Note,
}

/// Where the fix goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Target,
    /// This machine: programs, the command itself.
    Here,
}

impl Side {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
            Side::Here => "here",
        }
    }
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub side: Side,
    /// Stable, for scripts: `WAL_LEVEL`.
    pub code: String,
    /// Lower case, without a full stop.
    pub primary: String,
    pub detail: Option<String>,
    /// The SQL or command that fixes it.
    pub fix: Option<String>,
    /// A connection ended in the middle of the look: what was found says nothing, and looking again may help.
    #[serde(skip)]
    pub cut: bool,
    /// It was no look at all: a server or a broker did not answer. Says nothing of what is there.
    #[serde(skip)]
    pub unseen: bool,
}

impl Finding {
    fn new(severity: Severity, side: Side, code: &str, primary: impl Into<String>) -> Self {
        Finding {
            severity,
            side,
            code: code.to_owned(),
            primary: primary.into(),
            detail: None,
            fix: None,
            cut: false,
            unseen: false,
        }
    }

    #[must_use]
    pub fn refuse(side: Side, code: &str, primary: impl Into<String>) -> Self {
        Self::new(Severity::Refuse, side, code, primary)
    }

    #[must_use]
    pub fn warning(side: Side, code: &str, primary: impl Into<String>) -> Self {
        Self::new(Severity::Warning, side, code, primary)
    }

    #[must_use]
    pub fn note(side: Side, code: &str, primary: impl Into<String>) -> Self {
        Self::new(Severity::Note, side, code, primary)
    }

    /// An error met while looking, as a finding that refuses.
    #[must_use]
    pub fn from_error(side: Side, error: &Error) -> Self {
        Finding {
            severity: Severity::Refuse,
            side,
            code: error.code().to_owned(),
            primary: error.to_string(),
            detail: error.detail_text().map(str::to_owned),
            fix: error.hint_text().map(str::to_owned),
            // Brokers that don't answer are as an address that is wrong.
            cut: side != Side::Here && error.class() == Class::Connection,
            unseen: error.class() == Class::Connection,
        }
    }

    /// A connection that could not be made. `which`: what the command line calls it.
    #[must_use]
    pub fn unreachable(side: Side, which: &str, error: &Error) -> Self {
        let text = error.primary();
        let (code, fix) = match error.sqlstate() {
            Some("28P01" | "28000") => {
                ("AUTHENTICATION", "give another user or password, or a line in pg_hba.conf")
            }
            Some("3D000") => {
                ("NO_SUCH_DATABASE", "give the name of a database that exists, or CREATE DATABASE")
            }
            Some("53300") => (
                "TOO_MANY_CONNECTIONS",
                "ALTER SYSTEM SET max_connections = …; then restart the server; or end idle sessions",
            ),
            _ if text.contains("startup parameter") => (
                "POOLER",
                "connect to the server itself: a pooler stands in between, and neither snapshots nor slots pass through it",
            ),
            _ => (
                "CONNECTION",
                "check host and port (pg_isready -h HOST -p PORT), listen_addresses and the firewall",
            ),
        };
        let mut finding = Self::from_error(side, error);
        // Something did answer, and is not what it has to be.
        finding.unseen &= code != "POOLER";
        finding.code = code.to_owned();
        finding.primary = format!("no connection to {which}: {error}");
        finding.fix.get_or_insert_with(|| fix.to_owned());
        // Whoever gives a wrong address learns it at once; a server that restarts is there again soon.
        finding.cut = matches!(error.sqlstate(), Some("57P01" | "57P02" | "57P03"));
        finding
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    #[must_use]
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Refuse
    }

    /// Nothing stands in the way but that somebody did not answer: whether a run would start is not known.
    #[must_use]
    pub fn only_unseen(findings: &[Finding]) -> bool {
        let mut refusals = findings.iter().filter(|finding| finding.refuses()).peekable();
        refusals.peek().is_some() && refusals.all(|finding| finding.unseen)
    }

    /// The refusals as the one error that ends a command: the first one's code, all of them in the detail, each with its fix. Of class
    /// `Connection` where the look was cut short.
    #[must_use]
    pub fn as_error(findings: &[Finding]) -> Option<Error> {
        let refusals: Vec<&Finding> = findings.iter().filter(|finding| finding.refuses()).collect();
        if let Some(cut) = refusals.iter().find(|finding| finding.cut) {
            let error = Error::connection(format!(
                "the look at the {} was cut short: {}",
                cut.side.as_str(),
                cut.primary
            ));
            let error = cut.detail.iter().fold(error, |error, detail| error.detail(detail.clone()));
            return Some(cut.fix.iter().fold(error, |error, fix| error.hint(fix.clone())));
        }
        let first = refusals.first()?;
        if let [one] = refusals.as_slice() {
            let mut error = Error::new(Class::Refuse, one.code.clone(), one.primary.clone());
            error = one.detail.iter().fold(error, |error, detail| error.detail(detail.clone()));
            return Some(one.fix.iter().fold(error, |error, fix| error.hint(fix.clone())));
        }
        let each: Vec<String> = refusals
            .iter()
            .map(|finding| {
                let detail = finding.detail.iter().map(|detail| format!(": {detail}")).collect::<String>();
                let fix = finding.fix.iter().map(|fix| format!("\n  fix: {fix}")).collect::<String>();
                format!("{}: {}{detail} [{}]{fix}", finding.side.as_str(), finding.primary, finding.code)
            })
            .collect();
        let primary = format!("{} findings stand in the way; nothing was changed", refusals.len());
        Some(
            Error::new(Class::Refuse, first.code.clone(), primary)
                .detail(each.join("\n"))
                .hint("walferry check lists these and everything else, without starting anything"),
        )
    }
}

/// The first few of `names`, and how many more there are.
#[must_use]
pub fn some_of<T: std::fmt::Display>(names: &[T]) -> String {
    const SHOWN: usize = 20;
    let mut text = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_become_one_error() {
        let note = Finding::note(Side::Source, "SIZE", "3 tables");
        assert!(Finding::as_error(std::slice::from_ref(&note)).is_none());
        let wal = Finding::refuse(Side::Source, "WAL_LEVEL", "wal_level is replica").fix("ALTER SYSTEM …");
        let slot = Finding::refuse(Side::Source, "NO_FREE_SLOT", "no free slot");
        let error = Finding::as_error(&[note.clone(), wal.clone()]).unwrap();
        assert_eq!((error.code(), error.hint_text()), ("WAL_LEVEL", Some("ALTER SYSTEM …")));
        let error = Finding::as_error(&[note, wal, slot]).unwrap();
        assert_eq!((error.class(), error.code()), (Class::Refuse, "WAL_LEVEL"));
        let detail = error.detail_text().unwrap();
        assert!(detail.contains("wal_level is replica [WAL_LEVEL]\n  fix: ALTER SYSTEM …\n"), "{detail}");
        assert!(detail.ends_with("source: no free slot [NO_FREE_SLOT]"), "{detail}");
    }

    #[test]
    fn a_look_that_was_cut_short_refuses_nothing() {
        let slot = Finding::refuse(Side::Source, "NO_FREE_SLOT", "no free slot");
        let lost = Error::connection("gone").hint("is it there?");
        let error = Finding::as_error(&[slot, Finding::from_error(Side::Target, &lost)]).unwrap();
        assert_eq!((error.class(), error.code()), (Class::Connection, "CONNECTION"));
        assert_eq!(error.primary(), "the look at the target was cut short: gone");
        assert_eq!(error.hint_text(), Some("is it there?"));
        let unreachable = Finding::unreachable(Side::Target, "--target", &lost);
        for refused in [unreachable, Finding::from_error(Side::Here, &lost)] {
            let error = Finding::as_error(&[refused]).unwrap();
            assert_eq!((error.class(), error.code()), (Class::Refuse, "CONNECTION"));
        }
    }

    #[test]
    fn what_did_not_answer_is_not_known_until_something_else_refuses() {
        let lost = Error::connection("gone");
        let unreachable = Finding::unreachable(Side::Target, "--target", &lost);
        let brokers = Finding::from_error(Side::Here, &lost.with_code("KAFKA"));
        let note = Finding::note(Side::Source, "SIZE", "3 tables");
        assert!(Finding::only_unseen(&[unreachable.clone(), brokers, note.clone()]));
        let refused = Finding::unreachable(Side::Source, "--source", &Error::server("28P01", "no"));
        assert!(!Finding::only_unseen(&[unreachable, refused]));
        let pooler = Error::server("08P01", "unsupported startup parameter: replication");
        assert!(!Finding::only_unseen(&[Finding::unreachable(Side::Source, "--source", &pooler)]));
        assert!(!Finding::only_unseen(&[note]));
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<u32> = (0..25).collect();
        assert!(some_of(&names).ends_with("19 and 5 more"));
        assert_eq!(some_of(&["a", "b"]), "a, b");
    }
}
