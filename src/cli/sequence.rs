//! `migrate` and `replicate`: the run itself, and its summary at the end.

use std::time::Duration;

use pg::{Purpose, Result, Session};
use pipeline::Reporter;
use writer::control::Mode;

use super::status::State;
use super::{Context, Exit};
use crate::config::{From, Via};
use crate::foreign;
use crate::http;
use crate::outbox::shared::Shared;
use crate::output::{bytes, count, duration};
use crate::run::{self, Outcome};

pub async fn run(context: Context, mode: Mode, resync: Vec<String>) -> Result<Exit> {
    let command = if mode == Mode::Migrate { "migrate" } else { "replicate" };
    let mut run = run::Context::new(context.settings, mode, context.reporter, context.cancel)?;
    if mode == Mode::Replicate {
        run.outbox = Shared::new(&run.settings, &run.reporter, &run.cancel)?;
    }
    if let Some(outbox) = &run.outbox {
        Box::pin(outbox.preflight()).await?;
    }
    drive(run.resync(resync), command).await
}

/// The same for a run that is prepared already.
pub async fn drive(mut run: run::Context, command: &'static str) -> Result<Exit> {
    let settings = &run.settings;
    run.health = http::start(&settings.http, command, &run.name, &run.reporter, &run.cancel).await?;
    if settings.run.via == Via::Kafka {
        let topic = format!("{}.transaction", settings.kafka_prefix());
        http::kafka(&run.health, &run::topics::options(settings)?, &topic, run.cancel.clone());
    }
    let ended = match run.settings.kafka.from {
        From::Debezium => Box::pin(foreign::run(&run)).await,
        From::Walferry if run.share => run::shard::share(&run).await,
        From::Walferry => run::run(&run).await,
    };
    let title = match &ended {
        Ok(Outcome::CutOver) => "cut over: the target is the primary now",
        Ok(Outcome::Interrupted) => "stopped; the same command goes on from here",
        Err(_) => return ended.map(|_| Exit::Failed),
    };
    // A summary is no reason to wait for a target that is away.
    let _ = tokio::time::timeout(Duration::from_secs(2), summarize(&run, title)).await;
    Ok(match ended? {
        Outcome::CutOver => Exit::Done,
        Outcome::Interrupted => Exit::Interrupted,
    })
}

async fn summarize(run: &run::Context, title: &str) -> Result<()> {
    let session = Session::connect(&run.target, Purpose::Query, &format!("{} (summary)", run.name)).await?;
    if let Some(state) = State::read(&session, &run.name).await? {
        summary(&run.reporter, title, &state);
    }
    Ok(())
}

/// The time of each step over all starts of the run, and what was moved.
fn summary(reporter: &Reporter, title: &str, state: &State) {
    let mut lines: Vec<(String, String)> = state
        .steps
        .iter()
        .filter(|step| step.seconds.is_finite())
        .map(|step| (step.step.to_string(), duration(Duration::from_secs_f64(step.seconds.max(0.0)))))
        .collect();
    let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
    let (rows, size) = state.copied();
    lines.push((
        "copied".to_owned(),
        format!("{} tables, {} rows, {}", state.tables.len(), count(unsigned(rows)), bytes(unsigned(size))),
    ));
    let c = state.counters();
    lines.push((
        "applied".to_owned(),
        format!(
            "{} inserts, {} updates, {} deletes, {} truncates in {} transactions",
            count(unsigned(c.inserted)),
            count(unsigned(c.updated)),
            count(unsigned(c.deleted)),
            count(unsigned(c.truncated)),
            count(unsigned(c.transactions))
        ),
    ));
    if let Some(applied) = state.applied() {
        lines.push(("up to".to_owned(), applied.to_string()));
    }
    reporter.summary(title, lines);
}
