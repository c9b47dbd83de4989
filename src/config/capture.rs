//! The keys of a feed without a writer: what of the source becomes events, and how it begins.

use super::component::component;
use super::value::choice;
use super::{Expressions, Operations};
use pipeline::envelope::TableRoute;

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

impl CaptureSettings {
    /// The tables that share topics; none: nothing is said of it.
    ///
    /// # Errors
    /// What is wrong with the settings, by their names.
    pub fn topic_route(&self) -> Result<Option<TableRoute>, String> {
        match (&self.topic_regex, &self.topic_replacement) {
            (None, None) => Ok(None),
            (Some(regex), Some(replacement)) => {
                let field = self.topic_key.then(|| self.topic_key_field.clone());
                // The outbox's options are made of the same parts.
                let own = |error: String| error.replace("route.topic.", "capture.topic_");
                TableRoute::new(regex, replacement, field).map(Some).map_err(own)
            }
            _ => Err("capture.topic_regex and capture.topic_replacement: one needs the other".to_owned()),
        }
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
        /// Tables whose rows go into one topic: an expression for the whole name that a table's topic would have, `<prefix>.<schema>.<table>`, as
        /// Debezium's ByLogicalTableRouter takes it. Which table a row is of stands in `source`.
        /// Default: none; each table has its own topic.
        pub topic_regex: Option<String> = "",
        /// The topic for names that match; `$1` is what the expression's first group found.
        /// Default: none; `capture.topic_regex` needs one.
        pub topic_replacement: Option<String> = "",
        /// The key of such a row has one more member, with the name of the table's own topic: rows of two tables that have the same key keep apart.
        /// Default: on.
        pub topic_key: bool = "on",
        /// Name of that member.
        /// Default: Debezium's.
        pub topic_key_field: String = "__dbz__physicalTableIdentifier",
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
