//! A Debezium connector's configuration, taken as it is.
//!
//! ```text
//! FILE (JSON, .properties) ──► file ──► providers ──► Properties ──┬─► tables of properties ──► a layer of our own keys
//!                              ordered   ${env:…}     in order     └─► what is not applicable, and what is refused
//! ```
//!
//! Every property of the file ends in one of three ways, and a table says in which: it is **honoured** (becomes a key of ours, or says
//! what walferry does anyway), it is **not applicable** (its purpose does not exist here; said once, with the reason), or it is **refused**
//! (its effect can't be given, so the events would be others than expected). A property in no table is refused too. What the file leaves
//! out has Debezium's default, not ours.
//!
//! A table is a list of [`Property`]; a command has one or more of them, and the first entry that matches counts. [`SOURCE`] is that of
//! the PostgreSQL source connector; a router's transform brings its own and puts it before that one. [`CLIENT`] is that of Kafka's client and
//! of a worker, behind all others.

mod apply;
mod client;
mod file;
mod outbox;
mod page;
mod properties;
mod property;
mod providers;
mod source;
#[cfg(test)]
mod tests;

pub use apply::{Translated, apply, translate};
pub use client::CLIENT;
pub use file::Properties;
pub use outbox::OUTBOX;
pub use page::page;
pub use property::{Property, Verdict};
pub use source::{SOURCE, WRITER};

/// The tables for files whose command is not known: those of the outbox where one of them has the event router.
pub fn tables_of(paths: &[&std::path::Path]) -> Vec<&'static [Property]> {
    let router = |path: &&std::path::Path| {
        Properties::read(path).is_ok_and(|properties| {
            properties.transforms().any(|transform| transform.class.ends_with(".outbox.EventRouter"))
        })
    };
    if paths.iter().any(router) { vec![OUTBOX, SOURCE] } else { vec![SOURCE] }
}
