//! The schema of the target: before the rows (pre-data), after them (post-data), and when the target is opened.
//!
//! ```text
//! pg_dump ─► sections ─► pre_data, one transaction ─► rows ─► post_data, item by item, each with its `done` mark
//!             (lex)  └─► plan, tried on the empty tables      indexes ─► foreign keys NOT VALID ─► VALIDATE ─► triggers, rules, policies
//! ```
//!
//! pg_dump writes the schema of the run's snapshot; nothing here re-invents DDL. Sections:
//! <https://www.postgresql.org/docs/current/app-pgdump.html> (`--section`).

mod access;
mod analyze;
mod batch;
mod explain;
mod extensions;
mod lex;
mod matviews;
mod open;
mod pg_dump;
mod phase;
mod plan;
mod post_data;
mod pre_data;
mod rewrite;
mod sections;
mod sequences;
mod statement;

pub use access::let_admin_in;
pub use analyze::{Which, analyze_in_parallel};
pub use extensions::used_extensions;
pub use matviews::refresh_matviews;
pub use open::{drop_protection, open, protect};
pub use pg_dump::{DumpOptions, PgDump};
pub use phase::Phase;
pub use post_data::{PostItem, done as post_data_done, missing, run_item, run_items, store};
pub use pre_data::{AlwaysColumn, created_tables, restore};
pub use sections::{Entry, entries};
pub use sequences::{SequenceState, read_sequences, read_sequences_of, set_sequences};
