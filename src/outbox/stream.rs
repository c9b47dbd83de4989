//! The stream itself, and what goes on beside it: a look once a second, cleanup once a minute.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kafka::Producer;
use kafka::outbox::{OutboxOptions, OutboxSink, TopicSettings};
use pg::{Class, Error, Lsn, Result, Session};
use pipeline::ChangeSink;
use reader::stream;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::plan::Plan;
use super::retention;
use crate::http;
use crate::run::limit::Limit;
use crate::run::retry::Backoff;
use crate::run::topics;

/// A stream that can't be begins to fail within this.
const SETTLED: Duration = Duration::from_secs(2);
/// A source that needs longer for a look is as good as away.
const PATIENCE: Duration = Duration::from_secs(40);

type Cleaning<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Do the brokers answer? Asked before the slot is made, so that a mistyped name leaves nothing on the source.
pub async fn brokers_answer(context: &Context) -> Result<()> {
    kafka::Admin::new(&topics::options(&context.settings)?)?.all().await.map(drop)
}

/// The far end, with nothing in it. `start`: what Kafka has already.
pub fn open(context: &Context, plan: &Plan, start: Lsn) -> Result<(OutboxSink, Producer)> {
    OutboxSink::start(sink_options(context, plan)?, start)
}

/// What the far end is told.
pub fn sink_options(context: &Context, plan: &Plan) -> Result<OutboxOptions> {
    let kafka = topics::options(&context.settings)?;
    let (tables, messages) = plan.routers();
    let topics = TopicSettings {
        create: context.settings.outbox.create_topics,
        partitions: kafka.partitions,
        retention: kafka.retention,
        message_bytes: kafka.message_bytes,
    };
    Ok(OutboxOptions {
        kafka,
        tables,
        messages,
        dead_letters: context.dead_letters(),
        topics,
        counters: context.counters.clone(),
        reporter: context.reporter.clone(),
        smallest: context.smallest.clone(),
    })
}

/// Streams until cancelled or an error; what Kafka has then is confirmed.
pub async fn run(
    context: &Context,
    session: &Session,
    plan: Plan,
    start: Lsn,
    backoff: &mut Backoff,
    limit: &mut Limit<'_>,
) -> Result<()> {
    let (sink, producer) = open(context, &plan, start)?;
    let durable = sink.durable();
    let mut options = stream::Options::new(
        context.source.clone(),
        &context.name,
        &context.slot,
        plan.publications.clone(),
        start,
    );
    options.message_prefixes.clone_from(&plan.prefixes);
    options.reporter = context.reporter.clone();
    options.gather = context.settings.stream.gather;
    let stop = CancellationToken::new();
    let reading = stop.clone();
    let mut reader = tokio::spawn(async move {
        let ended = stream::run(options, sink, reading).await;
        let failure = producer.failure();
        producer.close().await;
        match failure {
            // Why the far end has gone.
            Some(error) => Err(error),
            None => ended.map_err(|error| error.context("source")),
        }
    });
    let _looking = http::slot(&context.health, &context.source, &context.slot);
    context.health.step("live");
    context.reporter.step("live");
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watch = Watch { events: context.counters.events.load(Ordering::Relaxed), at: Instant::now() };
    let (mut cleaned, mut cleaning): (Instant, Option<Cleaning<'_>>) = (Instant::now(), None);
    let ended = loop {
        tokio::select! {
            () = context.cancel.cancelled() => {
                stop.cancel();
                break (&mut reader).await;
            }
            ended = &mut reader => break ended,
            () = finished(&mut cleaning) => cleaning = None,
            _ = tick.tick() => {
                let delivered = durable.borrow().flushed;
                if delivered > start {
                    backoff.reset();
                }
                http::dead_letters(context.counters.dead_letters.load(Ordering::Relaxed));
                // On a source where nothing happens there is nothing to deliver.
                if delivered > start || began.elapsed() > SETTLED {
                    context.health.flowing();
                }
                if session.is_closed() {
                    stop.cancel();
                    let _ = (&mut reader).await;
                    return Err(Error::connection("source: the control connection was lost"));
                }
                match tokio::time::timeout(PATIENCE, limit.look(session, &context.reporter)).await {
                    Ok(Err(error)) if error.class() == Class::Refuse => {
                        stop.cancel();
                        let _ = (&mut reader).await;
                        return Err(error);
                    }
                    Ok(Err(error)) => tracing::debug!("could not look at the slot: {error}"),
                    Ok(Ok(_)) | Err(_) => {}
                }
                let look = watch.look(context, session, delivered);
                match tokio::time::timeout(Duration::from_secs(5), look).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("could not look at the source: {error}"),
                    Err(_) => {}
                }
                let due = context.settings.outbox.retention.is_some() && cleaned.elapsed() > retention::every();
                if due && cleaning.is_none() {
                    cleaned = Instant::now();
                    cleaning = Some(Box::pin(retention::clean(context, &plan.tables)));
                }
            }
        }
    };
    match ended {
        Ok(Ok(())) if context.cancel.is_cancelled() => Ok(()),
        Ok(Ok(())) => Err(Error::connection("the stream has ended")),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(Error::failed("PANIC", error.to_string())),
    }
}

async fn finished(cleaning: &mut Option<Cleaning<'_>>) {
    match cleaning {
        Some(cleaning) => cleaning.await,
        None => std::future::pending().await,
    }
}

struct Watch {
    events: u64,
    at: Instant,
}

impl Watch {
    async fn look(&mut self, context: &Context, session: &Session, delivered: Lsn) -> Result<()> {
        let row = session.query_one("SELECT pg_catalog.pg_current_wal_lsn()::text", &[]).await?;
        let source: Lsn =
            row.get::<_, String>(0).parse().map_err(|error| Error::failed("PROTOCOL", format!("{error}")))?;
        let events = context.counters.events.load(Ordering::Relaxed);
        let rate = (events - self.events) as f64 / self.at.elapsed().as_secs_f64().max(0.001);
        (self.events, self.at) = (events, Instant::now());
        context.reporter.live(delivered, source.bytes_since(delivered), None, rate);
        Ok(())
    }
}
