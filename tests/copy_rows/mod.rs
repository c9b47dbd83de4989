//! The copy brings every row as it is: across versions, kinds of tables and types; in pieces, and when connections are lost.

mod existing;
mod kinds;
mod lost;
mod snapshot;
