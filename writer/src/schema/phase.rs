//! When an item of post-data is due.

use pg::{Error, Result};

/// In the order of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Phase {
    /// Indexes and keys of one table: as soon as it is loaded, in parallel.
    Index,
    /// Keys on top of their indexes, partitions' indexes joined to their parents'.
    Attach,
    /// Extended statistics, views that needed a key, CLUSTER, replica identity.
    Misc,
    /// Foreign keys, NOT VALID.
    ForeignKey,
    /// Their validation, after the last copied-at LSN was passed.
    Validate,
    /// Triggers, rules, policies, privileges, what the source itself has NOT VALID: at cutover.
    Late,
    /// Identity columns GENERATED ALWAYS again: at cutover, after the last applied change.
    Open,
    /// Event triggers, which would fire for everything before: when the target is open.
    Last,
}

impl Phase {
    pub const ALL: [Phase; 8] = [
        Phase::Index,
        Phase::Attach,
        Phase::Misc,
        Phase::ForeignKey,
        Phase::Validate,
        Phase::Late,
        Phase::Open,
        Phase::Last,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Index => "index",
            Phase::Attach => "attach",
            Phase::Misc => "misc",
            Phase::ForeignKey => "foreign_key",
            Phase::Validate => "validate",
            Phase::Late => "late",
            Phase::Open => "open",
            Phase::Last => "last",
        }
    }

    pub fn parse(text: &str) -> Result<Phase> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or_else(|| {
            Error::refuse("RUN_UNREADABLE", format!("unknown phase \"{text}\" in walferry.post_data"))
        })
    }
}
