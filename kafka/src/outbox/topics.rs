//! The topics of events: looked up once, made where they are missing.

use std::collections::HashMap;
use std::time::Duration;

use pg::{Error, Result};
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::takes::Takes;
use crate::failure::classify;
use crate::options::REQUEST;
use crate::topics::Admin;

/// How topics are made.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// Make what is missing; otherwise it is waited for.
    pub create: bool,
    pub partitions: i32,
    pub retention: Duration,
    /// `max.message.bytes`.
    pub message_bytes: usize,
}

/// One topic as the broker has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub partitions: usize,
    pub takes: Takes,
}

/// Why a topic can't be used.
pub(super) enum Unusable {
    /// Kafka takes no topic of that name: the event's own fault.
    Name(String),
    Error(Error),
}

/// The topics of one stream.
pub(super) struct Topics {
    admin: Admin,
    known: HashMap<String, Facts>,
}

impl Topics {
    pub(super) fn new(admin: Admin) -> Topics {
        Topics { admin, known: HashMap::new() }
    }

    pub(super) async fn facts(
        &mut self,
        topic: &str,
        settings: &TopicSettings,
    ) -> std::result::Result<Facts, Unusable> {
        if let Some(facts) = self.known.get(topic) {
            return Ok(*facts);
        }
        let all = self.admin.all().await.map_err(Unusable::Error)?;
        let partitions = match all.get(topic) {
            Some(partitions) => *partitions,
            None if !settings.create => return Err(Unusable::Error(missing(topic))),
            None => {
                let brokers = all.get("").copied().unwrap_or(1);
                self.create(topic, settings, brokers).await?;
                usize::try_from(settings.partitions).unwrap_or(1)
            }
        };
        let facts = Facts { partitions, takes: self.takes(topic).await };
        self.known.insert(topic.to_owned(), facts);
        Ok(facts)
    }

    async fn create(
        &self,
        topic: &str,
        settings: &TopicSettings,
        brokers: usize,
    ) -> std::result::Result<(), Unusable> {
        let admin = &self.admin;
        let replication =
            admin.options.replication.unwrap_or_else(|| i32::try_from(brokers).unwrap_or(1).clamp(1, 3));
        let (retention, largest) =
            (settings.retention.as_millis().to_string(), settings.message_bytes.to_string());
        let forever = i64::MAX.to_string();
        let new = NewTopic::new(topic, settings.partitions, TopicReplication::Fixed(replication))
            .set("cleanup.policy", "delete")
            .set("retention.ms", &retention)
            .set("max.message.bytes", &largest)
            .set("min.insync.replicas", if replication >= 3 { "2" } else { "1" })
            // An event has the time that its producer gives it, and no clock refuses it.
            .set("message.timestamp.type", "CreateTime")
            .set("message.timestamp.after.max.ms", &forever)
            .set("message.timestamp.before.max.ms", &forever);
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let results = admin
            .client
            .create_topics([&new], &options)
            .await
            .map_err(|e| Unusable::Error(admin.unreachable(&e)))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, RDKafkaErrorCode::InvalidTopic)) => {
                    return Err(Unusable::Name(
                        "Kafka takes no topic of that name (another one differs from it in . and _ only)"
                            .to_owned(),
                    ));
                }
                Err((name, code)) => {
                    let error = KafkaError::AdminOp(code);
                    return Err(Unusable::Error(classify(&error, &format!("creating topic \"{name}\""))));
                }
            }
        }
        Ok(())
    }

    /// A role without DescribeConfigs doesn't know it; the broker then says so when it refuses a message.
    async fn takes(&self, topic: &str) -> Takes {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let configs = self.admin.client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
        let config = configs.ok().and_then(|configs| configs.into_iter().next()?.ok());
        config.map_or_else(Takes::default, |config| {
            Takes::of(|name| config.get(name).and_then(|entry| entry.value.as_deref()))
        })
    }
}

fn missing(topic: &str) -> Error {
    Error::stop("KAFKA_TOPIC_MISSING", format!("Kafka: there is no topic \"{topic}\""))
        .detail("outbox.create_topics is off; the slot keeps the events meanwhile")
        .hint(format!("kafka-topics.sh --create --topic {topic}; the run then goes on by itself"))
}

/// Smallest `max.message.bytes` of any topic that is there: no batch may be larger.
pub(super) fn smallest(known: &Topics) -> Option<usize> {
    known.known.values().filter_map(|facts| facts.takes.limit).min()
}

/// Of the brokers, nothing is asked yet.
///
/// # Errors
/// Class `Usage`: a setting that librdkafka refuses.
pub(super) fn open(options: &crate::Options) -> Result<Topics> {
    Ok(Topics::new(Admin::new(options)?))
}
