//! The carrier that goes through Kafka: one topic a table, and still whole transactions in commit order.
//!
//! ```text
//!  stream ─► KafkaSink ─► <prefix>.<schema>.<table> … ─► Merge ─► (direct queue) ─► KafkaSource ─► apply
//!              │  events, each (commit LSN, index)         ▲ events in order of their index
//!              └► <prefix>.transaction ────────────────────┘ END: the transaction is whole
//! ```
//!
//! # Invariants
//!
//! 1. **END is the commit record.** It is sent only after every event of its transaction has been acknowledged by Kafka, so whoever
//!    reads END finds all of them in their topics. What has no END does not exist: the rest of a reader that died is left where it is.
//! 2. **The slot moves by END.** A transaction is confirmed to the source when its END has been acknowledged; an idle position when its
//!    heartbeat has been.
//! 3. **An event belongs to the reader that sent it** (its epoch). A transaction is made of the events whose epoch is its END's; every
//!    other event of the same commit LSN is what another reader left, and is dropped.
//! 4. **Offsets live in the target**, in the transaction that applies the rows. They only say where to begin to read; what is applied is
//!    decided by progress, so an offset that is too old costs time and nothing else.
//! 5. **Nothing is skipped.** An offset that is no longer there, a topic made anew, a transaction whose events are gone: an error that says
//!    so. There is no reset policy.
//! 6. Memory is bounded: bytes in flight to Kafka, bytes fetched per partition, one event of each partition in the merge.

mod announcement;
mod aside;
mod covered;
mod failure;
pub mod foreign;
mod form;
mod gate;
mod lag;
mod ledger;
mod merge;
#[cfg(test)]
mod mocked;
mod murmur2;
mod options;
pub mod outbox;
mod partition;
mod position;
mod producer;
mod published;
mod reach;
mod rows;
mod security;
mod sink;
mod source;
mod tail;
mod topics;

pub use announcement::{Announcement, Written};
pub use aside::settle;
pub use failure::again;
pub use form::{Form, Routing};
pub use lag::{Lag, TopicLag};
pub use merge::{Merge, MergeOptions, Need, Needs};
pub use murmur2::{murmur2, partition};
pub use options::Options;
pub use position::Position;
pub use producer::Producer;
pub use reach::reach;
pub use rows::Rows;
pub use security::{Mechanism, Protocol, Security, TLS};
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub use tail::Tail;
pub use topics::{Admin, Weakness};
