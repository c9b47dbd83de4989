//! Runs whose changes travel through a real broker.

mod acknowledged;
mod altered;
mod bad_input;
mod connector;
mod control;
mod faults;
mod memory;
mod resync;
mod retained;
mod rows;
mod security;
mod services;
mod shard;
mod snapshot;
mod status;
mod topics;
mod under_load;

use std::time::Duration;

use crate::support::feed::Builder;
use crate::support::{Feed, Kafka, Way};

/// The long variants, of `scripts/test --all`.
fn full() -> bool {
    std::env::var_os("WALFERRY_TEST_FULL").is_some()
}

/// Until all that is committed is in the topics of the first lane: its slot is confirmed that far.
async fn brought(feed: &Feed) {
    let brought = format!(
        "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{}'), false) FROM pg_replication_slots WHERE slot_name = '{}'",
        feed.source.wal_position().await,
        feed.lanes[0].walferry.run_name()
    );
    feed.source.wait_until(&feed.database, &brought, Duration::from_secs(60)).await;
}

/// A feed through the broker that all tests share, with topics of its own.
async fn feed(schema: &str) -> Builder {
    let kafka = Kafka::shared().await;
    Feed::of(schema).via(kafka, &Kafka::prefix()).ways(&[Way::Sets, Way::Rows])
}
