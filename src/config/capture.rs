//! The keys of a feed without a writer: what of the source becomes events, and how it begins.

use super::component::component;
use super::value::choice;
use super::{Expressions, Operations};

choice! {
    /// Which publication `read` makes where the one that it is to follow is not there.
    pub enum Autocreate {
        Disabled = "disabled",
        AllTables = "all_tables",
        Filtered = "filtered",
        NoTables = "no_tables",
    }
}

choice! {
    /// When `read` writes the rows that the tables hold.
    pub enum SnapshotMode {
        Never = "never",
        Initial = "initial",
        Always = "always",
    }
}

component! {
    /// What `read` takes of what is published, and how it begins: what a Debezium connector's file says about it. A run with a writer takes
    /// everything; these are for feeds without one (`read --create-slot`). Expressions have to match a whole name, know no case, and are
    /// separated by commas (`\,` is a comma of an expression).
    pub struct CaptureSettings in "capture." {
        /// Schemas to take, by expressions.
        /// Default: all.
        pub schema_include: Expressions = "",
        /// Schemas to leave out.
        /// Default: none.
        pub schema_exclude: Expressions = "",
        /// Tables to take, by expressions for `schema.table`.
        /// Default: all.
        pub table_include: Expressions = "",
        /// Tables to leave out.
        /// Default: none.
        pub table_exclude: Expressions = "",
        /// Columns to take, by expressions for `schema.table.column`.
        /// Default: all.
        pub column_include: Expressions = "",
        /// Columns to leave out. Those of a table's key can't be.
        /// Default: none.
        pub column_exclude: Expressions = "",
        /// Kinds of changes that make no event: `c`, `u`, `d`, `t` for inserts, updates, deletes and TRUNCATE.
        /// Default: none is left out.
        pub skipped_operations: Operations = "none",
        /// Logical messages (`pg_logical_emit_message`; source 14 and later) that go to `<prefix>.message`, by expressions for their prefix.
        /// Default: no message; those of a file without a word about it are all.
        pub message_include: Expressions = "",
        /// Prefixes of messages to leave out.
        /// Default: none.
        pub message_exclude: Expressions = "",
        /// Make the slot where it is not there, and the publication as `capture.publication` says; a slot that is named and is there is taken up
        /// where it is confirmed (also `--create-slot`, and any `--connector`).
        /// Default: off; `walferry write` makes both.
        pub create_slot: bool = "off",
        /// The publication where `run.publication` names one that is not there: `all_tables` of the database, those that are taken (`filtered`),
        /// without tables (`no_tables`), or none, which is an error (`disabled`).
        /// Default: disabled. Without a name, walferry's own has the tables that are taken.
        pub publication: Autocreate = "disabled",
        /// A publication that is made publishes partitions under their root's name (source 13 and later).
        /// Default: off, PostgreSQL's own.
        pub via_partition_root: bool = "off",
        /// Write the rows that the tables hold as events (op `r`) before the stream: `initial`, once for a feed (also `--snapshot`); `always`, at
        /// every start.
        /// Default: never.
        pub snapshot: SnapshotMode = "never",
    }
}
