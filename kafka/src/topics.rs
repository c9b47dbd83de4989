//! The topics: made explicitly, looked at before they are used. Auto-creation would give them one partition and a week.

mod names;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pg::{Error, QualifiedName, Result};
use pipeline::envelope::Topics;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;

use crate::aside::Aside;
use crate::failure::classify;
use crate::options::{Options, Quiet, REQUEST, made};
use names::names;

/// A topic that is less than the settings ask for; a run with it is possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Weakness {
    pub what: String,
    /// The command that changes it.
    pub fix: String,
}

fn number(config: &ConfigResource, key: &str) -> Option<i64> {
    config.get(key)?.value.as_deref()?.parse().ok()
}

/// Makes topics and looks at them.
#[derive(Clone)]
pub struct Admin {
    pub(crate) client: std::sync::Arc<Aside<AdminClient<Quiet>>>,
    pub(crate) options: Options,
}

impl Admin {
    /// # Errors
    /// Class `Usage`: a setting that librdkafka refuses. The brokers are not asked yet.
    pub fn new(options: &Options) -> Result<Admin> {
        let client = made(options.admin().create_with_context(Quiet))?;
        Ok(Admin { client: std::sync::Arc::new(Aside::new(client)), options: options.clone() })
    }

    /// Whether a broker answers within `patience`. Asks for one topic, which need not exist: a large cluster has thousands.
    ///
    /// # Errors
    /// None does.
    pub async fn answers(&self, topic: &str, patience: Duration) -> Result<()> {
        let (client, topic) = (self.client.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            client.inner().fetch_metadata(Some(&topic), patience).map(|_| ())
        });
        asked
            .await
            .map_err(|error| Error::failed("KAFKA", error.to_string()))?
            .map_err(|error| self.unreachable(&error))
    }

    /// Numbers of partitions, of every topic there is.
    pub async fn all(&self) -> Result<HashMap<String, usize>> {
        let client = self.client.clone();
        let metadata = tokio::task::spawn_blocking(move || client.inner().fetch_metadata(None, REQUEST))
            .await
            .map_err(|error| Error::failed("KAFKA", error.to_string()))?
            .map_err(|error| self.unreachable(&error))?;
        let mut topics: HashMap<String, usize> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
            .collect();
        // What the brokers say about themselves goes along, under a name that no topic has.
        topics.insert(String::new(), metadata.brokers().len());
        Ok(topics)
    }

    pub(crate) fn unreachable(&self, error: &rdkafka::error::KafkaError) -> Error {
        let error = classify(error, "asking the brokers");
        if error.class() != pg::Class::Connection {
            return error;
        }
        error
            .detail(format!("brokers {}", self.options.brokers))
            .hint("check --brokers, and that they are up")
    }

    /// Looks at what [`Admin::ensure`] would use, and makes nothing. Answers with all that `ensure` would refuse, too.
    ///
    /// # Errors
    /// The brokers can't be asked, or don't let us make topics.
    pub async fn look(
        &self,
        topics: &Topics,
        tables: &[QualifiedName],
    ) -> Result<(Vec<Weakness>, Vec<Error>)> {
        let (names, mut refused) = names(topics, tables);
        let all = self.all().await?;
        let wanted = names.keys().chain([&topics.transaction, &topics.heartbeat]);
        let (existing, missing): (Vec<&str>, Vec<&str>) =
            wanted.map(String::as_str).partition(|name| all.contains_key(*name));
        // Rights and copies are looked at by the brokers, and nothing is made.
        let missing: Vec<(&str, i32)> = missing
            .into_iter()
            .map(|name| (name, names.get(name).map_or(1, |table| self.partitions(table))))
            .collect();
        if !missing.is_empty() {
            self.create(&missing, all.get("").copied().unwrap_or(1), true).await?;
        }
        let (weak, compacted) = self.check(&existing).await?;
        refused.extend(compacted);
        Ok((weak, refused))
    }

    /// Makes what is missing of these tables' topics and of the run's own; answers with the partitions of each.
    ///
    /// # Errors
    /// `Refuse`: two tables share one name, a name is too long, or a topic that exists is compacted.
    pub async fn ensure(&self, topics: &Topics, tables: &[QualifiedName]) -> Result<HashMap<String, usize>> {
        let (names, refused) = names(topics, tables);
        first(refused)?;
        let own = [(&topics.transaction, self.options.transactions), (&topics.heartbeat, true)];
        let mut wanted: Vec<(&str, i32)> =
            own.iter().filter(|(_, is)| *is).map(|(name, _)| (name.as_str(), 1)).collect();
        wanted.extend(names.iter().map(|(name, table)| (name.as_str(), self.partitions(table))));
        self.ensure_named(&wanted).await
    }

    /// Makes what is missing of these, with so many partitions; answers with the partitions of each.
    ///
    /// # Errors
    /// `Refuse`: one that exists is compacted.
    pub async fn ensure_named(&self, wanted: &[(&str, i32)]) -> Result<HashMap<String, usize>> {
        let mut all = self.all().await?;
        let brokers = all.get("").copied().unwrap_or(1);
        let existing: Vec<&str> =
            wanted.iter().filter(|(name, _)| all.contains_key(*name)).map(|(name, _)| *name).collect();
        let (_, refused) = self.check(&existing).await?;
        first(refused)?;
        let missing: Vec<(&str, i32)> =
            wanted.iter().filter(|(name, _)| !all.contains_key(*name)).copied().collect();
        if !missing.is_empty() {
            self.create(&missing, brokers, false).await?;
            all.extend(missing.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions as usize)));
        }
        let partitions = wanted.iter().filter_map(|(name, _)| Some(((*name).to_owned(), *all.get(*name)?)));
        Ok(partitions.collect())
    }

    /// That a table's topic is made with.
    fn partitions(&self, table: &QualifiedName) -> i32 {
        self.options.table_partitions.get(table).copied().unwrap_or(self.options.partitions)
    }

    async fn create(&self, missing: &[(&str, i32)], brokers: usize, only_look: bool) -> Result<()> {
        let replication =
            self.options.replication.unwrap_or_else(|| i32::try_from(brokers).unwrap_or(1).clamp(1, 3));
        let retention = self.options.retention.as_millis().to_string();
        let largest = self.options.message_bytes.to_string();
        let in_sync = if replication >= 3 { "2" } else { "1" };
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|(name, partitions)| {
                NewTopic::new(name, *partitions, TopicReplication::Fixed(replication))
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", &retention)
                    .set("max.message.bytes", &largest)
                    .set("min.insync.replicas", in_sync)
                    // Our own clock is no reason to refuse or to remove a record.
                    .set("message.timestamp.type", "LogAppendTime")
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST))
            .operation_timeout(Some(REQUEST))
            .validate_only(only_look);
        let results = self.client.create_topics(&new, &options).await.map_err(|e| self.unreachable(&e))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let error = rdkafka::error::KafkaError::AdminOp(code);
                    return Err(classify(&error, &format!("creating topic \"{name}\"")));
                }
            }
        }
        Ok(())
    }

    /// Partitions and `retention.ms` (none: for ever) of these topics, as far as they exist.
    ///
    /// # Errors
    /// The brokers can't be asked, or don't tell.
    pub async fn settings(&self, names: &[&str]) -> Result<BTreeMap<String, (usize, Option<u64>)>> {
        let all = self.all().await?;
        let names: Vec<&str> = names.iter().copied().filter(|name| all.contains_key(*name)).collect();
        let configs = self.configs(&names).await?;
        let one = |(name, config): (&&str, ConfigResource)| {
            let retention = number(&config, "retention.ms").and_then(|ms| u64::try_from(ms).ok());
            ((*name).to_owned(), (all.get(*name).copied().unwrap_or(0), retention))
        };
        Ok(names.iter().zip(configs).map(one).collect())
    }

    async fn configs(&self, names: &[&str]) -> Result<Vec<ConfigResource>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let configs =
            self.client.describe_configs(&resources, &options).await.map_err(|e| self.unreachable(&e))?;
        let one = |(name, config): (&&str, std::result::Result<ConfigResource, RDKafkaErrorCode>)| {
            config
                .map_err(rdkafka::error::KafkaError::AdminOp)
                .map_err(|e| classify(&e, &format!("looking at topic \"{name}\"")))
        };
        names.iter().zip(configs).map(one).collect()
    }

    /// Existing topics keep their settings, as far as nothing can get lost by them; what is less than was asked for is said.
    async fn check(&self, names: &[&str]) -> Result<(Vec<Weakness>, Vec<Error>)> {
        let (mut found, mut refused) = (Vec::new(), Vec::new());
        for (name, config) in names.iter().zip(self.configs(names).await?) {
            let policy =
                config.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
            if policy.contains("compact") {
                let error = Error::refuse(
                    "KAFKA_TOPIC_COMPACTED",
                    format!("topic \"{name}\" has cleanup.policy={policy}: compaction removes events that the target has not applied yet"),
                )
                .hint(format!(
                    "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {name} --add-config \
                     cleanup.policy=delete, or give another --prefix",
                    self.options.brokers
                ));
                refused.push(error);
                continue;
            }
            self.weaknesses(name, &config, &mut found);
        }
        Ok((found, refused))
    }

    fn weaknesses(&self, name: &str, config: &ConfigResource, found: &mut Vec<Weakness>) {
        let wanted = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        let largest = i64::try_from(self.options.message_bytes).unwrap_or(i64::MAX);
        let mut weak = |what: String, setting: String| {
            found.push(Weakness {
                what: format!("topic \"{name}\" has {what}"),
                fix: format!(
                    "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {name} --add-config {setting}",
                    self.options.brokers
                ),
            });
        };
        if let Some(kept) = number(config, "retention.ms").filter(|kept| (0..wanted).contains(kept)) {
            weak(
                format!(
                    "retention.ms={kept}, less than kafka.retention ({wanted} ms): a writer that is away for longer has to start over"
                ),
                format!("retention.ms={wanted}"),
            );
        }
        if let Some(kept) = number(config, "retention.bytes").filter(|kept| *kept >= 0) {
            weak(
                format!(
                    "retention.bytes={kept}: what is not applied yet is removed when so much is behind it"
                ),
                "retention.bytes=-1".to_owned(),
            );
        }
        if let Some(bytes) = number(config, "max.message.bytes").filter(|bytes| *bytes < largest) {
            weak(
                format!(
                    "max.message.bytes={bytes}, less than kafka.message_bytes ({largest}): a larger event will stop the run"
                ),
                format!("max.message.bytes={largest}"),
            );
        }
    }

    /// Offsets behind the last record of each partition of these topics.
    pub async fn ends(&self, names: &[String]) -> Result<BTreeMap<String, Vec<i64>>> {
        let all = self.all().await?;
        let wanted: Vec<(String, usize)> =
            names.iter().map(|name| (name.clone(), all.get(name).copied().unwrap_or(0))).collect();
        let client = self.client.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let mut ends = BTreeMap::new();
            for (name, partitions) in wanted {
                let mut offsets = Vec::with_capacity(partitions);
                for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
                    offsets.push(client.inner().fetch_watermarks(&name, partition, REQUEST)?.1);
                }
                ends.insert(name, offsets);
            }
            Ok(ends)
        });
        looking
            .await
            .map_err(|error| Error::failed("KAFKA", error.to_string()))?
            .map_err(|error: rdkafka::error::KafkaError| self.unreachable(&error))
    }

    /// Removes these topics, as far as they are there.
    pub async fn remove(&self, names: &[String]) -> Result<usize> {
        let all = self.all().await?;
        let there: Vec<&str> = names.iter().filter(|n| all.contains_key(*n)).map(String::as_str).collect();
        if there.is_empty() {
            return Ok(0);
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let results = self.client.delete_topics(&there, &options).await.map_err(|e| self.unreachable(&e))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((name, code)) => {
                    let error = rdkafka::error::KafkaError::AdminOp(code);
                    return Err(classify(&error, &format!("removing topic \"{name}\"")));
                }
            }
        }
        Ok(there.len())
    }
}

fn first(refused: Vec<Error>) -> Result<()> {
    refused.into_iter().next().map_or(Ok(()), Err)
}
