//! Runs whose changes travel through a real broker.

mod bad_input;
mod connector;
mod control;
mod faults;
mod memory;
mod resync;
mod rows;
mod security;
mod services;
mod shard;
mod snapshot;
mod status;
mod topics;
mod under_load;

use crate::support::feed::Builder;
use crate::support::{Feed, Kafka, Way};

/// The long variants, of `scripts/test --all`.
fn full() -> bool {
    std::env::var_os("WALFERRY_TEST_FULL").is_some()
}

/// A feed through the broker that all tests share, with topics of its own.
async fn feed(schema: &str) -> Builder {
    let kafka = Kafka::shared().await;
    Feed::of(schema).via(kafka, &Kafka::prefix()).ways(&[Way::Sets, Way::Rows])
}
