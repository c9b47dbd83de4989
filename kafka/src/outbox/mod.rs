//! Outbox events on their way: committed rows and messages in, each to its topic, what can't be delivered to the dead-letter topic.
//!
//! ```text
//! stream ─► OutboxSink ─► Router ─► topic of the event ─┐
//!                            └────► <prefix>.dlq ───────┴─► acknowledged by Kafka ─► slot
//! ```
//!
//! [`Beside`] does the same within the stream of the crate's [`KafkaSink`](crate::KafkaSink), whose producer then sends both.
//!
//! # Invariants
//!
//! 1. **The slot moves by acknowledgement.** A transaction counts when Kafka has every one of its messages, dead letters included, and all
//!    transactions before it.
//! 2. **Order**: one idempotent producer, and messages are handed to it in commit order, so a partition has them in that order.
//! 3. **Only what is wrong with the event goes to the dead letters.** Whatever Kafka refuses for a reason that somebody can remove (down, not
//!    allowed, a topic that may not be made) ends the stream, and the event comes again.

mod beside;
mod counters;
mod dispatch;
mod letter;
mod letters;
mod sink;
mod takes;
mod topics;

pub use beside::Beside;
pub use counters::{Counters, TopicCount};
pub use dispatch::OutboxOptions;
pub use letter::{ERROR, ID, PREFIX, ROW, STAGE, TABLE};
pub use letters::{Letter, REPLAYED, read as read_letters, replay};
pub use sink::OutboxSink;

pub(crate) use beside::of_tables;
pub(crate) use dispatch::{Dispatch, Open, producer_config};
pub use topics::TopicSettings;
