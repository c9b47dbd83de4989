//! What is on the source: which tables a run moves, their columns, keys and sizes, and what its publications hold.
//!
//! In: a session on the source and a selection, or the names of publications. Out: [`pipeline::TableSpec`]s, which copy, stream and
//! verify share. Every query runs on all supported versions; what a version lacks is left out of the SQL, never guessed.

mod pattern;
mod publication;
mod selection;
mod tables;
mod types;
mod watch;

pub use pattern::Pattern;
pub use publication::{
    Actions, DIGEST, Joined, KeylessTable, OwnPublication, PublicationChanges, PublicationSettings,
    PublicationState, PublishedTable, Without, is_keyless, plan_own,
};
pub use selection::Selection;
pub use tables::{published, selected, topmost};
pub use types::types;
pub use watch::{Altered, MadeAnew, altered};
