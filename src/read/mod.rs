//! The reader as a service of its own: `walferry read`.
//!
//! ```text
//!  topics: who writes here? ─► found.rs ─► slot ─► stream ─► KafkaSink ─► topics
//!           ▲ announcement of walferry write        stream.rs, and beside it what is published
//! ```
//!
//! Beside all of it: what the slot retains (`run/limit`).
//!
//! It knows the source and the brokers and never the target: run, slot and publications come out of the topics, where `walferry write` has
//! announced them and where its own heartbeats repeat them. Where to go on stands there as well: the end of what is whole.
//!
//! With `--create-slot` there is no writer: the reader makes publication and slot itself (`make.rs`), for other consumers. With `--snapshot`
//! the rows that the tables hold are written first, as `r` events (`snapshot.rs`). Such a feed may take part of the changes only, as a
//! Debezium connector's file says it (`--connector`, `capture/`).
//!
//! # Invariants
//!
//! 1. The slot is looked at before the topics: what it was confirmed to, the topics held then. Further than that means that something is
//!    lost, and is refused.
//! 2. Every start has an epoch of its own, larger than any in the topics (see the crate `kafka`).

mod capture;
mod found;
mod make;
mod publication;
mod rival;
mod snapshot;
mod stream;

use std::time::Duration;

use pg::{Params, Purpose, Result, Session};
use pipeline::Reporter;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::http::Health;
use crate::outbox::shared::Shared;
use crate::run::context::on_source;
use crate::run::limit;
use crate::run::retry::Backoff;

use capture::Capture;
use found::Found;
use rival::Rival;

/// What the reader needs.
pub struct Reading {
    pub settings: Settings,
    pub name: String,
    pub source: Params,
    pub reporter: Reporter,
    pub cancel: CancellationToken,
    /// Told how things go.
    pub health: Health,
    /// What of the published changes becomes events.
    pub capture: Capture,
    /// Outbox events are routed in the same stream.
    pub outbox: Option<Shared>,
}

impl Reading {
    pub fn new(settings: Settings, reporter: Reporter, cancel: CancellationToken) -> Result<Reading> {
        Ok(Reading {
            name: settings.name().to_owned(),
            source: settings.source()?,
            capture: Capture::new(&settings),
            settings,
            reporter,
            cancel,
            health: Health::default(),
            outbox: None,
        })
    }

    /// Questions to the source's catalogs.
    pub async fn session(&self) -> Result<Session> {
        Session::connect(&self.source, Purpose::Query, &format!("{} (control)", self.name))
            .await
            .map_err(on_source)
    }
}

/// What outlives one attempt.
struct State {
    backoff: Backoff,
    /// Source and brokers have answered once.
    started: bool,
    /// It was said that we wait for the writer.
    waits: bool,
    rival: Rival,
    /// This process has written the tables' rows.
    rows_written: bool,
    /// Told the slot, once it is known.
    retained: limit::Retained,
}

/// How long the stream may take to end, once the slot was dropped under it.
const DRAIN: Duration = Duration::from_secs(3);

/// Streams until interrupted or refused. Errors that pass, or that somebody has to cure, are tried again.
///
/// # Errors
/// Of class `Refuse`, `Usage` or `Failed`: trying again would not help.
pub async fn run(reading: &Reading) -> Result<()> {
    let retained = limit::Retained::default();
    let watch = limit::Watch {
        limits: &reading.settings.limits,
        source: &reading.source,
        run: &reading.name,
        reporter: &reading.reporter,
        again: format!("start over: walferry clean --name {}, then walferry write again", reading.name),
    };
    let mut reads = Box::pin(attempts(reading, retained.clone()));
    tokio::select! {
        ended = &mut reads => ended,
        error = Box::pin(watch.run(&retained)) => {
            reading.cancel.cancel();
            let _ = tokio::time::timeout(DRAIN, reads).await;
            Err(error)
        }
    }
}

/// One after the other.
async fn attempts(reading: &Reading, retained: limit::Retained) -> Result<()> {
    let retry = &reading.settings.retry;
    let mut state = State {
        backoff: Backoff::new(retry.connection_max, retry.blocked_max),
        started: false,
        waits: false,
        rival: Rival::default(),
        rows_written: false,
        retained,
    };
    loop {
        let result = Box::pin(attempt(reading, &mut state)).await;
        if reading.cancel.is_cancelled() {
            return Ok(());
        }
        let Err(error) = result else { continue };
        if !state
            .backoff
            .wait(error, state.started, &reading.health, &reading.reporter, &reading.cancel)
            .await?
        {
            return Ok(());
        }
    }
}

/// Until the stream ends: by an error, by the signal, or because something else is published now.
async fn attempt(reading: &Reading, state: &mut State) -> Result<()> {
    reading.health.step("waiting");
    let Some(found) = Found::wait(reading, state).await? else { return Ok(()) };
    let slot = found.announcement.slot.clone();
    state.retained.of(Some(&slot));
    match Box::pin(stream::run(reading, found, state)).await {
        Err(error) if error.is(pg::sqlstate::OBJECT_IN_USE) => {
            Err(state.rival.judge(reading, &slot, error).await)
        }
        result => result,
    }
}
