//! The messages of PostgreSQL's output plugin, decoded over borrowed bytes.
//!
//! In: the body of an XLogData message. Out: [`pipeline::Event`]s, whose values are still slices of the network buffer. Messages that only
//! describe (Relation, Type, Origin) are remembered or passed over and give no event.
//!
//! Kept here: no input makes it panic, allocate by a length that it does not hold, or guess; a row always has as many values as its
//! relation has columns, and stands inside a transaction.
//!
//! Traps: Relation messages repeat after every DDL and invalidation, so a new [`pipeline::Relation`] is made only if it really differs;
//! an empty schema name means `pg_catalog`; messages of streamed and prepared transactions come only if asked for, which we don't.
//!
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

mod cursor;
mod decoder;
mod relations;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
