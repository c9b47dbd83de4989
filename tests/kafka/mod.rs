//! Runs whose changes travel through a real broker.

mod control;
mod faults;
mod resync;
mod rows;
mod services;

use crate::support::feed::Builder;
use crate::support::{Feed, Kafka, Way};

/// A feed through the broker that all tests share, with topics of its own.
async fn feed(schema: &str) -> Builder {
    let kafka = Kafka::shared().await;
    Feed::of(schema).via(kafka, &Kafka::prefix()).ways(&[Way::Sets, Way::Rows])
}
