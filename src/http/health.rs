//! Whether events can flow, as far as the process knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pg::Error;
use pipeline::metric;
use tokio_util::sync::CancellationToken;

use crate::output;

/// What was said longer ago than this says nothing about now: whoever says it waits for something that does not answer.
const STALE: Duration = Duration::from_secs(15);

/// Told by the parts of a process, asked by `/readyz`. Clones share one state; the default is asked by nobody.
#[derive(Clone, Default)]
pub struct Health(Option<Arc<Inner>>);

struct Inner {
    state: Mutex<State>,
    cancel: CancellationToken,
}

struct State {
    flow: Flow,
    /// What the flow rests on and is looked at beside it.
    checks: BTreeMap<&'static str, Check>,
    /// That have been shown.
    steps: Vec<String>,
}

enum Flow {
    /// Before the stream: the step that the run is in.
    Starting(String),
    Flowing(Instant),
    Stopped(String),
}

enum Check {
    Pending,
    Good(Instant),
    Bad(String),
}

impl Health {
    pub(super) fn watched(cancel: CancellationToken) -> Health {
        let state =
            State { flow: Flow::Starting("starting".to_owned()), checks: BTreeMap::new(), steps: Vec::new() };
        Health(Some(Arc::new(Inner { state: Mutex::new(state), cancel })))
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|inner| inner.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nobody asks: what would only be for whoever asks can be left out.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// The run is in this step, and nothing flows yet.
    pub fn step(&self, step: &str) {
        let Some(mut state) = self.state() else { return };
        for shown in &state.steps {
            metrics::gauge!(metric::STEP, "step" => shown.clone()).set(0);
        }
        metrics::gauge!(metric::STEP, "step" => step.to_owned()).set(1);
        if !state.steps.iter().any(|shown| shown == step) {
            state.steps.push(step.to_owned());
        }
        if matches!(state.flow, Flow::Starting(_)) {
            state.flow = Flow::Starting(step.to_owned());
        }
    }

    /// Events flow, or would if there were any. To be said again and again: see [`STALE`].
    pub fn flowing(&self) {
        if let Some(mut state) = self.state() {
            state.flow = Flow::Flowing(Instant::now());
        }
    }

    /// The stream has stopped, or can't begin.
    pub fn stopped(&self, error: &Error) {
        if let Some(mut state) = self.state() {
            state.flow = Flow::Stopped(one_line(error));
        }
    }

    /// Something that the flow rests on will be looked at.
    pub(super) fn rests_on(&self, what: &'static str) {
        if let Some(mut state) = self.state() {
            state.checks.insert(what, Check::Pending);
        }
    }

    /// Nobody looks at it any more.
    pub(super) fn forget(&self, what: &'static str) {
        if let Some(mut state) = self.state() {
            state.checks.remove(what);
        }
    }

    /// It was looked at.
    pub(super) fn looked_at(&self, what: &'static str, found: Result<(), String>) {
        if let Some(mut state) = self.state() {
            let check = match found {
                Ok(()) => Check::Good(Instant::now()),
                Err(reason) => Check::Bad(reason),
            };
            state.checks.insert(what, check);
        }
    }

    /// Ready, or why not.
    pub(super) fn verdict(&self, now: Instant) -> Result<(), String> {
        let Some(inner) = &self.0 else { return Ok(()) };
        if inner.cancel.is_cancelled() {
            return Err("stopping".to_owned());
        }
        let Some(state) = self.state() else { return Ok(()) };
        // What is away explains why nothing flows; so it comes first.
        for (what, check) in &state.checks {
            match check {
                Check::Good(at) if now.saturating_duration_since(*at) < STALE => {}
                Check::Good(_) => return Err(format!("{what}: does not answer")),
                Check::Pending => return Err(format!("{what}: not looked at yet")),
                Check::Bad(reason) => return Err(format!("{what}: {reason}")),
            }
        }
        match &state.flow {
            Flow::Flowing(at) if now.saturating_duration_since(*at) < STALE => Ok(()),
            Flow::Flowing(at) => {
                let since = output::duration(now.saturating_duration_since(*at));
                Err(format!("a database has not answered for {since}"))
            }
            Flow::Starting(step) => Err(format!("step {step}: nothing flows yet")),
            Flow::Stopped(reason) => Err(reason.clone()),
        }
    }
}

/// For everybody who reaches the port. A server's own words may hold a value of a row; its code can't.
fn one_line(error: &Error) -> String {
    if let Some(sqlstate) = error.sqlstate() {
        return format!("{sqlstate}: a server refuses; the log has its message");
    }
    let text = output::redact(&format!("{}: {}", error.code(), error.primary()));
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::watched(CancellationToken::new())
    }

    #[test]
    fn ready_only_while_events_can_flow() {
        let health = health();
        let now = Instant::now;
        assert_eq!(health.verdict(now()).unwrap_err(), "step starting: nothing flows yet");
        health.step("copy");
        assert_eq!(health.verdict(now()).unwrap_err(), "step copy: nothing flows yet");
        health.flowing();
        assert_eq!(health.verdict(now()), Ok(()));
        health.step("live");
        assert_eq!(health.verdict(now()), Ok(()), "a step forward stops nothing");
        health.stopped(&Error::refuse("SLOT_LOST", "the slot\nis gone"));
        assert_eq!(health.verdict(now()).unwrap_err(), "SLOT_LOST: the slot is gone");
        health.flowing();
        assert_eq!(health.verdict(now()), Ok(()));
        let later = now() + STALE;
        assert!(health.verdict(later).unwrap_err().contains("has not answered for"));
    }

    #[test]
    fn what_it_rests_on_has_to_be_there() {
        let health = health();
        health.flowing();
        health.rests_on("kafka");
        assert_eq!(health.verdict(Instant::now()).unwrap_err(), "kafka: not looked at yet");
        health.looked_at("kafka", Ok(()));
        assert_eq!(health.verdict(Instant::now()), Ok(()));
        health.looked_at("kafka", Err("no broker answers".to_owned()));
        assert_eq!(health.verdict(Instant::now()).unwrap_err(), "kafka: no broker answers");
        health.looked_at("kafka", Ok(()));
        health.flowing();
        health.0.as_ref().unwrap().cancel.cancel();
        assert_eq!(health.verdict(Instant::now()).unwrap_err(), "stopping");
    }

    #[test]
    fn neither_passwords_nor_what_a_server_says_about_rows() {
        let health = health();
        health.stopped(&Error::server("22P02", "invalid input syntax for type integer: \"c4nary\""));
        assert_eq!(
            health.verdict(Instant::now()).unwrap_err(),
            "22P02: a server refuses; the log has its message"
        );
        health.stopped(&Error::connection("postgresql://a:c4nary@h/d does not answer"));
        assert!(!health.verdict(Instant::now()).unwrap_err().contains("c4nary"));
    }
}
