//! A run whose changes travel through Kafka: where its topics stand, and both halves of the carrier.
//!
//! ```text
//! stream ─► KafkaSink ─► topics ─► Merge ─► KafkaSource ─► Applier
//!    ▲─── slot: END acknowledged by Kafka      offsets: in the target's progress ───▲
//! ```

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka::{Admin, KafkaSink, KafkaSource, Merge, MergeOptions, Position, Producer, Tail};
use pg::{Error, Lsn, QualifiedName, Result};
use pipeline::TableSpec;
use pipeline::envelope::{self, ColumnType, Decoder, Dialect, Encoder, Kind, TableTypes, Values};
use reader::stream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::apply::Applier;
use writer::control::{Run, RunTable, SourceIdentity};

use super::attach;
use super::context::Context;

/// The run's topics before its stream begins.
pub struct Topics {
    options: kafka::Options,
    envelope: envelope::Options,
    admin: Admin,
    /// Everything up to here is in the topics, or in the target.
    pub start: Lsn,
}

/// Both halves, ready to run.
pub struct Halves {
    sink: KafkaSink,
    producer: Producer,
    merge: Merge,
    source: KafkaSource,
}

impl Topics {
    /// Looks where the topics end. `applied`: what the target has.
    ///
    /// # Errors
    /// They are another run's, or another source's.
    pub async fn look(context: &Context, run: &Run, applied: Lsn) -> Result<Topics> {
        let identity = run.source.as_ref().ok_or_else(|| {
            Error::refuse("RUN_UNREADABLE", format!("run \"{}\" has no source on record", run.name))
        })?;
        let options = options(context)?;
        let mut envelope = envelope_options(context, run, identity);
        let admin = Admin::new(&options)?;
        let tail = Tail::read(&options).await?;
        tail.check(&options.prefix, &envelope.system_identifier, &envelope.run_id)?;
        // Larger than any before it, also where the topics have forgotten them.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        envelope.epoch = u64::try_from(now).unwrap_or(0).max(tail.epoch + 1);
        let start = tail.position().map_or(applied, |end| end.max(applied));
        Ok(Topics { options, envelope, admin, start })
    }

    /// Makes the topics that are missing, and both halves. `carrier`: the writer's position, as the target keeps it.
    pub async fn open(
        self,
        context: &Context,
        tables: &[RunTable],
        applied: Lsn,
        carrier: Option<&str>,
    ) -> Result<Halves> {
        let specs: Vec<TableSpec> =
            tables.iter().filter(|table| table.left_at.is_none()).map(attach::spec).collect::<Result<_>>()?;
        let names: Vec<QualifiedName> =
            specs.iter().filter(|spec| spec.streamed).map(|spec| spec.name.clone()).collect();
        let mut encoder = Encoder::new(self.envelope.clone());
        let mut decoder = Decoder::new(self.envelope.clone(), Dialect::Walferry);
        for spec in &specs {
            let types = types(spec);
            encoder.describe(types.clone());
            decoder.describe(types);
        }
        let partitions: HashMap<String, usize> = self.admin.ensure(encoder.topics(), &names).await?;
        let of = MergeOptions {
            system_identifier: self.envelope.system_identifier.clone(),
            run_id: self.envelope.run_id.clone(),
            progress: applied,
            position: Position::parse(carrier)?,
            queue_bytes: context.settings.apply.queue_bytes.as_usize(),
        };
        let (merge, source) = Merge::start(&self.options, decoder, self.admin.clone(), &partitions, of)?;
        let (sink, producer) = KafkaSink::start(&self.options, encoder, self.admin, partitions, self.start)?;
        Ok(Halves { sink, producer, merge, source })
    }
}

impl Halves {
    /// The reader's task, the merge's and the writer's.
    pub fn spawn(
        self,
        tasks: &mut JoinSet<Result<()>>,
        options: stream::Options,
        applier: Applier,
        reading: CancellationToken,
        writing: CancellationToken,
    ) {
        let Halves { sink, producer, merge, source } = self;
        let stop = reading.clone();
        tasks.spawn(async move {
            let ended = stream::run(options, sink, reading).await;
            let failure = producer.failure();
            producer.close().await;
            match failure {
                // Why the far end has gone.
                Some(error) => Err(error),
                None => ended.map_err(|error| error.context("source")),
            }
        });
        tasks.spawn(async move { merge.run(stop).await });
        tasks.spawn(async move { applier.run(source, writing).await });
    }
}

fn options(context: &Context) -> Result<kafka::Options> {
    let settings = &context.settings.kafka;
    let brokers =
        settings.brokers.clone().ok_or_else(|| Error::usage("no brokers: give --brokers HOST:PORT,…"))?;
    Ok(kafka::Options {
        brokers,
        prefix: context.settings.kafka_prefix().to_owned(),
        client_id: format!("walferry-{}", context.name),
        partitions: i32::try_from(settings.partitions).unwrap_or(i32::MAX),
        replication: settings.replication_factor.and_then(|factor| i32::try_from(factor).ok()),
        retention: settings.retention,
        message_bytes: settings.message_bytes.as_usize(),
        in_flight_bytes: settings.in_flight_bytes.as_usize(),
        fetch_bytes: settings.fetch_bytes.as_usize(),
    })
}

fn envelope_options(context: &Context, run: &Run, identity: &SourceIdentity) -> envelope::Options {
    let mut options =
        envelope::Options::new(context.settings.kafka_prefix(), &identity.database, Values::Postgres);
    options.schemas = context.settings.kafka.schemas;
    options.tombstones = context.settings.kafka.tombstones;
    options.system_identifier.clone_from(&identity.system_id);
    // A run that was cleaned and started over has another slot, and other topics.
    options.run_id = format!("{}@{}", run.name, run.slot_lsn.unwrap_or_default());
    options
}

/// What the record of a table says about its columns.
fn types(spec: &TableSpec) -> TableTypes {
    TableTypes {
        name: spec.name.clone(),
        key: spec.key.clone(),
        identity: spec.identity,
        columns: spec
            .columns
            .iter()
            .map(|column| ColumnType {
                name: column.name.clone(),
                type_oid: column.type_oid,
                kind: Kind::Base,
                base_name: column.type_name.clone(),
                base_oid: column.type_oid,
                type_modifier: column.type_modifier,
                array: false,
                not_null: column.not_null,
                default: None,
                computed_default: false,
                labels: Vec::new(),
            })
            .collect(),
    }
}
