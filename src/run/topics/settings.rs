//! What the settings say of a run's topics and of the events in them.

use std::sync::Arc;

use kafka::{Form, Routing};
use pg::{Error, Result};
use pipeline::envelope::{self, TableRoute, Values};
use writer::control::Run;

use crate::config::{KafkaValues, Settings};
use crate::run::modes;

/// How the run reaches its topics.
///
/// # Errors
/// Class `Usage`: no brokers.
pub fn options(settings: &Settings) -> Result<kafka::Options> {
    let kafka = &settings.kafka;
    let brokers =
        kafka.brokers.clone().ok_or_else(|| Error::usage("no brokers: give --brokers HOST:PORT,…"))?;
    Ok(kafka::Options {
        brokers,
        prefix: settings.kafka_prefix().to_owned(),
        client_id: format!("walferry-{}", settings.name()),
        partitions: i32::try_from(kafka.partitions).unwrap_or(i32::MAX),
        table_partitions: kafka.table_partitions.0.clone(),
        replication: kafka.replication_factor.and_then(|factor| i32::try_from(factor).ok()),
        retention: kafka.retention,
        message_bytes: kafka.message_bytes.as_usize(),
        in_flight_bytes: kafka.in_flight_bytes.as_usize(),
        linger: kafka.linger,
        fetch_bytes: kafka.fetch_bytes.as_usize(),
        transactions: kafka.transactions,
        security: settings.kafka_security()?,
    })
}

/// Names a run in its topics: one that was cleaned and started over has another slot, and other topics. The form of the values belongs to
/// it: what was written in one can't be read in the other.
pub fn run_id(settings: &Settings, run: &Run) -> String {
    format!("{}@{}/{}", run.name, run.slot_lsn.unwrap_or_default(), values(settings))
}

/// Which tables share topics; what the settings say of it was looked at when they were read.
fn route(settings: &Settings) -> Option<Arc<TableRoute>> {
    settings.capture.topic_route().ok().flatten().map(Arc::new)
}

/// The topics of a feed.
pub fn names(settings: &Settings) -> envelope::Topics {
    envelope::Topics::new(settings.kafka_prefix()).routed(route(settings))
}

/// The form of the events beside their values, as a reader announces it.
pub fn form(settings: &Settings) -> Form {
    let capture = &settings.capture;
    let topics = capture.topic_regex.clone().zip(capture.topic_replacement.clone());
    let key_field = capture.topic_key.then(|| capture.topic_key_field.clone());
    Form {
        schemas: settings.kafka.schemas,
        tombstones: settings.kafka.tombstones,
        topics: topics.map(|(regex, replacement)| Routing { regex, replacement, key_field }),
    }
}

/// The form of the values, as it stands in the run's id.
pub fn values(settings: &Settings) -> String {
    let values = match settings.kafka.values {
        KafkaValues::Postgres => "postgres",
        KafkaValues::Debezium => "debezium",
    };
    format!("{values}{}", modes::named(settings))
}

/// How the run's events look.
///
/// # Errors
/// The run has no source on record.
pub fn envelope_options(settings: &Settings, run: &Run) -> Result<envelope::Options> {
    let identity = run.source.as_ref().ok_or_else(|| {
        Error::refuse("RUN_UNREADABLE", format!("run \"{}\" has no source on record", run.name))
    })?;
    Ok(envelope_of(settings, &identity.database, &identity.system_id, &run_id(settings, run)))
}

/// As [`envelope_options`], from what a reader knows.
pub fn envelope_of(settings: &Settings, database: &str, system_id: &str, run_id: &str) -> envelope::Options {
    let values = match settings.kafka.values {
        KafkaValues::Postgres => Values::Postgres,
        KafkaValues::Debezium => Values::Debezium,
    };
    let mut options = envelope::Options::new(settings.kafka_prefix(), database, values);
    options.schemas = settings.kafka.schemas;
    options.tombstones = settings.kafka.tombstones;
    options.transactions = settings.kafka.transactions;
    options.route = route(settings);
    modes::set(settings, &mut options);
    system_id.clone_into(&mut options.system_identifier);
    run_id.clone_into(&mut options.run_id);
    options
}
