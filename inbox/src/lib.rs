//! Takes events from Kafka into PostgreSQL so that each has its effect exactly once.
//!
//! Whatever publishes to Kafka delivers at least once: after a crash the last events come again. A consumer that wants each order reserved
//! once has to know which events it has seen, and has to learn it in the same transaction in which it acts on them. That is all an inbox
//! is:
//!
//! ```text
//!  Kafka ─► Message ─► BEGIN ─► is its id in inbox.processed? ── yes ─► ROLLBACK, next
//!                                  │ no: it is now
//!                                  ▼
//!                               Handler (your statements, same transaction) ─► COMMIT ─► offset
//!                                  │ error: ROLLBACK, again after a pause; in the end a dead letter
//! ```
//!
//! # Use
//!
//! ```no_run
//! use inbox::{Failure, Handler, Message, Options, Transaction, Worker};
//! use serde::Deserialize;
//!
//! /// One variant for each event type; types that are not named here are passed over.
//! #[derive(Deserialize)]
//! enum OrderEvent {
//!     OrderPlaced { order_id: i64, product: String, quantity: i32 },
//!     OrderCancelled { order_id: i64 },
//! }
//!
//! struct Stock;
//!
//! impl Handler for Stock {
//!     type Event = OrderEvent;
//!
//!     async fn handle(&self, tx: &Transaction<'_>, event: OrderEvent, _message: &Message) -> Result<(), Failure> {
//!         match event {
//!             OrderEvent::OrderPlaced { order_id, product, quantity } => {
//!                 let sql = "UPDATE stock SET free = free - $2 WHERE product = $1 AND free >= $2";
//!                 if tx.execute(sql, &[&product, &quantity]).await? == 0 {
//!                     return Err(Failure::poison(format!("order {order_id}: not enough in stock")));
//!                 }
//!             }
//!             OrderEvent::OrderCancelled { .. } => {}
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # async fn run() -> Result<(), inbox::Error> {
//! let database: tokio_postgres::Config = "host=db user=inventory dbname=inventory".parse()?;
//! let options = Options::new("kafka:9092", "inventory", ["outbox.event.Order"]);
//! let stop = tokio_util::sync::CancellationToken::new();
//! Worker::new(options, inbox::plain(database)).run(&Stock, stop).await
//! # }
//! ```
//!
//! Run as many workers of one group as the topic has partitions, in one process or in many.
//!
//! # What it promises
//!
//! 1. **Once.** Your statements and the event's id commit together. Events that come again, offsets that were not committed, two workers
//!    that hold a partition for a moment during a rebalance: the primary key of `inbox.processed` lets one of them through.
//! 2. **In order per key.** Events of one key are in one partition, a partition has one worker, and a worker takes one event after the
//!    other. An event that is tried again holds up those behind it; one that became a dead letter does not.
//! 3. **Nothing is lost.** The offset moves after the COMMIT. What is wrong with the surroundings (database away, deadlock, disk full) is
//!    tried again for as long as it lasts; only what is wrong with an event itself makes a dead letter, with its original bytes.
//!
//! What it can't do: undo effects outside of the database. A handler that sends a mail may send it twice; write it to an outbox instead.

mod cleanup;
mod commit;
mod connect;
mod database;
mod dead;
mod error;
mod event;
mod message;
mod options;
mod replay;
mod schema;
mod stats;
mod worker;

pub use cleanup::cleanup;
pub use connect::{Connect, plain};
pub use error::{Error, Failure};
pub use message::{Malformed, Message, Payload, Place};
pub use options::{DeadLetters, Options};
pub use replay::Replayed;
pub use schema::{SQL, install};
pub use stats::Stats;
pub use tokio_postgres::Transaction;
pub use worker::{Handler, Worker};
