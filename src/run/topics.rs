//! A run whose changes travel through Kafka: where its topics stand, and both halves of the carrier.
//!
//! ```text
//! stream ─► KafkaSink ─► topics ─► Merge ─► KafkaSource ─► Applier
//!    ▲─── slot: END acknowledged by Kafka      offsets: in the target's progress ───▲
//! ```

mod settings;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka::outbox::Beside;
use kafka::{
    Admin, Announcement, Form, KafkaSink, KafkaSource, Merge, MergeOptions, Need, Needs, Position, Producer,
    Tail, Weakness, Written,
};
use pg::{Error, Lsn, QualifiedName, Result};
use pipeline::envelope::{self, Decoder, Dialect, Encoder, TableTypes};
use pipeline::{ChangeSink, TableSpec};
use reader::{catalog, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::apply::Applier;
use writer::control::{Run, RunTable};

use super::context::Context;
use crate::config::Settings;

pub use settings::{envelope_of, envelope_options, form, names, options, run_id, values};

/// The run's topics before its stream begins.
pub struct Topics {
    options: kafka::Options,
    envelope: envelope::Options,
    admin: Admin,
    /// Everything up to here is in the topics, or in the target.
    pub start: Lsn,
    /// What the topics say was read, whatever the target has.
    pub read: Lsn,
    /// What a reader has written as rows of a snapshot.
    pub snapshot: Option<Written>,
    /// The form of the events that a reader has written.
    pub form: Option<Form>,
    /// The source's timeline that they were read from last.
    pub timeline: Option<u32>,
    /// Tables that other processes feed.
    elsewhere: HashSet<QualifiedName>,
    /// What is not known is to be found out about by this process.
    others: bool,
}

/// Both halves, ready to run; or the writer's alone, where a process of its own reads.
pub struct Halves {
    reader: Option<ReaderHalf>,
    merge: Merge,
    source: KafkaSource,
}

/// The reader's half.
pub struct ReaderHalf {
    sink: KafkaSink,
    producer: Producer,
}

impl Topics {
    /// Looks where the topics end. `applied`: what the target has.
    ///
    /// # Errors
    /// They are another run's, or another source's.
    pub async fn look(context: &Context, run: &Run, applied: Lsn) -> Result<Topics> {
        let options = options(&context.settings)?;
        let mut envelope = envelope_options(&context.settings, run)?;
        let admin = Admin::new(&options)?;
        let tail = Tail::read(&options).await?;
        tail.check(&options.prefix, &envelope.system_identifier, &envelope.run_id)?;
        envelope.epoch = epoch_after(&tail);
        let start = tail.position().map_or(applied, |end| end.max(applied));
        let timeline = tail.timeline();
        let read = tail.read_to().unwrap_or_default();
        let form = tail.origin().and_then(|origin| origin.form);
        if let Some(form) = &form {
            // Whoever read before may have been given another one, and this process not: a run keeps to its form.
            envelope.schemas = form.schemas;
            envelope.tombstones = form.tombstones;
        }
        let snapshot = tail.announcement.and_then(|announced| announced.snapshot);
        Ok(Topics {
            options,
            envelope,
            admin,
            start,
            read,
            snapshot,
            form,
            timeline,
            elsewhere: HashSet::new(),
            others: true,
        })
    }

    /// Other processes feed these tables.
    #[must_use]
    pub fn without(self, elsewhere: HashSet<QualifiedName>) -> Topics {
        Topics { elsewhere, ..self }
    }

    /// Of nothing but the tables that are opened.
    #[must_use]
    pub fn of_these_tables_alone(self) -> Topics {
        Topics { others: false, ..self }
    }

    /// The target has come to `applied` meanwhile.
    #[must_use]
    pub fn from(self, applied: Lsn) -> Topics {
        Topics { start: self.start.max(applied), ..self }
    }

    /// Makes the topics that are missing, and both halves. `carrier`: the writer's position, as the target keeps it. `announcement`: what
    /// the reader's half reads; none when another process does.
    pub async fn open(
        self,
        context: &Context,
        tables: &[RunTable],
        applied: Lsn,
        carrier: Option<&str>,
        announcement: Option<&Announcement>,
        outbox: Option<Beside>,
    ) -> Result<Halves> {
        let specs: Vec<TableSpec> = tables
            .iter()
            .filter(|table| table.left_at.is_none())
            .map(|table| table.spec().cloned())
            .collect::<Result<_>>()?;
        let mut decoder = Decoder::new(self.envelope.clone(), Dialect::Walferry);
        let oids: Vec<u32> = specs.iter().map(|spec| spec.oid).collect();
        let session = context.source_session().await?;
        let types = catalog::types(&session, &oids).await?;
        drop(session);
        types.iter().for_each(|types| decoder.describe(types.clone()));
        let topics = envelope::Topics::new(&self.options.prefix);
        let partitions = self.admin.ensure(&topics, &streamed(&specs)).await?;
        let of = MergeOptions {
            system_identifier: self.envelope.system_identifier.clone(),
            run_id: self.envelope.run_id.clone(),
            progress: applied,
            position: Position::parse(carrier)?,
            queue_bytes: context.settings.apply.queue_bytes.as_usize(),
            needs: needs(tables, &self.elsewhere, self.others),
        };
        let (merge, source) = Merge::start(&self.options, decoder, self.admin.clone(), &partitions, of)?;
        let reader = match announcement {
            Some(announcement) => Some(ReaderHalf::open(
                &self.options,
                self.envelope,
                self.admin,
                types,
                partitions,
                announcement,
                self.start,
                outbox,
            )?),
            None => None,
        };
        Ok(Halves { reader, merge, source })
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
        let Halves { reader, merge, source } = self;
        let stop = reading.clone();
        if let Some(reader) = reader {
            tasks.spawn(reader.run(options, reading));
        }
        tasks.spawn(async move { merge.run(stop).await });
        tasks.spawn(async move { applier.run(source, writing).await });
    }

    /// As [`Halves::spawn`], of a writer's half alone.
    pub fn spawn_writer(
        self,
        tasks: &mut JoinSet<Result<()>>,
        applier: Applier,
        stop: CancellationToken,
        writing: CancellationToken,
    ) {
        let Halves { merge, source, .. } = self;
        tasks.spawn(async move { merge.run(stop).await });
        tasks.spawn(async move { applier.run(source, writing).await });
    }
}

impl ReaderHalf {
    /// `start`: what the topics hold already, or the target. `outbox`: events beside the tables.
    #[allow(clippy::too_many_arguments)]
    pub fn open(
        options: &kafka::Options,
        envelope: envelope::Options,
        admin: Admin,
        types: Vec<TableTypes>,
        partitions: HashMap<String, usize>,
        announcement: &Announcement,
        start: Lsn,
        outbox: Option<Beside>,
    ) -> Result<ReaderHalf> {
        let mut encoder = Encoder::new(envelope);
        types.into_iter().for_each(|types| encoder.describe(types));
        let (sink, producer) =
            KafkaSink::start(options, encoder, admin, partitions, announcement, start, outbox)?;
        Ok(ReaderHalf { sink, producer })
    }

    /// Streams until `cancel`.
    pub async fn run(self, options: stream::Options, cancel: CancellationToken) -> Result<()> {
        Box::pin(self.run_through(|sink| sink, options, cancel)).await
    }

    /// The same with something between the stream and the topics.
    pub async fn run_through<S: ChangeSink + 'static>(
        self,
        between: impl FnOnce(KafkaSink) -> S + Send,
        options: stream::Options,
        cancel: CancellationToken,
    ) -> Result<()> {
        let ReaderHalf { sink, producer } = self;
        let ended = stream::run(options, between(sink), cancel).await;
        let failure = producer.failure();
        producer.close().await;
        match failure {
            // Why the far end has gone.
            Some(error) => Err(error),
            None => ended.map_err(|error| error.context("source")),
        }
    }
}

/// What of each table the target lacks. What is not known here may be a table under another name: the writer finds out.
fn needs(tables: &[RunTable], elsewhere: &HashSet<QualifiedName>, others: bool) -> Needs {
    let need = |table: &RunTable| {
        let from = table.copied_at?;
        Some((table.name.clone(), Some(Need { from, until: table.left_at })))
    };
    let elsewhere = elsewhere.iter().map(|name| (name.clone(), None));
    Needs::new(tables.iter().filter_map(need).chain(elsewhere), others)
}

/// The tables that have events.
pub fn streamed(specs: &[TableSpec]) -> Vec<QualifiedName> {
    specs.iter().filter(|spec| spec.streamed).map(|spec| spec.name.clone()).collect()
}

/// Larger than any before it, also where the topics have forgotten them.
pub fn epoch_after(tail: &Tail) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(now).unwrap_or(0).max(tail.epoch + 1)
}

/// What the slot was confirmed up to was in the topics once.
pub fn behind_the_slot(error: Error) -> Error {
    if error.code() != "GAP" {
        return error;
    }
    let lost = Error::refuse(
        "KAFKA_DATA_LOST",
        "the slot was confirmed further than the topics and the target hold",
    );
    let lost = match error.detail_text() {
        Some(detail) => lost.detail(detail),
        None => lost,
    };
    lost.hint(
        format!(
            "retention has removed transactions that were not applied, the transaction topic was deleted, or the slot was advanced. {}",
            kafka::again(&["*"])
        ),
    )
}

/// Looks at brokers and topics before a run begins, and changes nothing. `resumes`: the run has begun, and the topics may be its own.
///
/// Answers with what is weaker than the settings ask for, and with all that would stop the run, as far as the brokers can be asked.
///
/// # Errors
/// They can't, or the topics are another run's.
pub async fn preflight(
    settings: &Settings,
    tables: &[TableSpec],
    resumes: bool,
) -> Result<(Vec<Weakness>, Vec<Error>)> {
    let options = options(settings)?;
    kafka::reach(&options).await?;
    let admin = Admin::new(&options)?;
    let (weak, mut refused) = admin.look(&envelope::Topics::new(&options.prefix), &streamed(tables)).await?;
    let tail = Tail::read(&options).await?;
    if resumes || (tail.run_id.is_none() && tail.system_identifier.is_none()) {
        return Ok((weak, refused));
    }
    let system = tail.system_identifier.as_deref().unwrap_or_default();
    refused.extend(tail.check(&options.prefix, system, "new").err());
    Ok((weak, refused))
}

/// Whether a broker answers within `patience`.
///
/// # Errors
/// None does, or the settings are refused.
pub async fn answer(settings: &Settings, patience: Duration) -> Result<()> {
    let options = options(settings)?;
    let topic = envelope::Topics::new(&options.prefix).heartbeat;
    Admin::new(&options)?.answers(&topic, patience).await
}

/// Removes the topics of a run, if they are its own, and says so.
///
/// # Errors
/// The brokers can't be asked.
pub async fn remove(
    settings: &Settings,
    run: &Run,
    tables: &[RunTable],
    done: &mut Vec<String>,
) -> Result<()> {
    let options = options(settings)?;
    let tail = Tail::read(&options).await?;
    if tail.run_id.as_deref() != Some(run_id(settings, run).as_str()) {
        return Ok(());
    }
    let topics = envelope::Topics::new(&options.prefix);
    let mut names = vec![topics.transaction.clone(), topics.heartbeat.clone()];
    names.extend(tables.iter().map(|table| topics.table(&table.name)));
    let removed = Admin::new(&options)?.remove(&names).await?;
    done.push(format!("Kafka: {removed} topics of prefix \"{}\" removed", options.prefix));
    Ok(())
}
