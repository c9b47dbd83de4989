//! Asking the running process for something, and waiting for its answer.
//!
//! A row in `walferry.requests`; its lease is renewed while we wait, so that the running process drops it when we are gone.

use std::time::Duration;

use pg::{Error, Result, Session};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use writer::control::{Request, RequestKind, RequestState, Run, holder};

/// How the process that runs it answered.
pub enum Answer {
    Done(Value),
    Failed(Value),
    /// A signal came while we waited; `running` when the process had begun already.
    Interrupted {
        running: bool,
    },
}

const LOOK_AGAIN: Duration = Duration::from_millis(100);
const RENEW: Duration = Duration::from_secs(10);
/// A process that reconnects is without its lock for some seconds.
const ABSENT: Duration = Duration::from_secs(20);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// For the answer.
    Answer(Duration),
    /// For a sign of life: the answer may take as long as it likes while somebody is at work on it.
    SignOfLife(Duration),
}

/// Refuses at once when no process runs the run.
pub async fn ask(
    session: &Session,
    run: &Run,
    kind: RequestKind,
    args: &Value,
    patience: Patience,
    cancel: &CancellationToken,
) -> Result<Answer> {
    if holder(session, &run.name).await?.is_none() {
        return Err(not_running(run));
    }
    let id = Request::ask(session, &run.name, kind, args).await?;
    let begun = Instant::now();
    let mut renewed = begun;
    let mut seen = begun;
    let mut life = SignsOfLife { last: None, at: begun };
    loop {
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            () = cancel.cancelled() => {
                let running = withdraw(session, &run.name, id).await?;
                return Ok(Answer::Interrupted { running });
            }
        }
        let Some(request) = Request::read(session, id).await? else {
            return Err(Error::failed("REQUEST_GONE", "the request is gone: the run was cleaned"));
        };
        if let Some(answer) = answered(Some(request.clone())) {
            return Ok(answer);
        }
        if renewed.elapsed() >= RENEW {
            Request::renew(session, id).await?;
            renewed = Instant::now();
        }
        life.look(&request);
        match patience {
            Patience::Answer(limit) if begun.elapsed() >= limit => {
                withdraw(session, &run.name, id).await?;
                return Err(Error::failed("REQUEST_TIMEOUT", "the running process did not answer in time")
                    .hint(format!("see what it does: walferry status --name {}", run.name)));
            }
            Patience::SignOfLife(limit) if life.at.elapsed() >= limit => {
                let withdrawn = Request::withdraw(session, &run.name, id).await?;
                // It may have answered at this very moment.
                if !withdrawn && let Some(answer) = answered(Request::read(session, id).await?) {
                    return Ok(answer);
                }
                return Err(silent(run, limit, withdrawn));
            }
            _ => {}
        }
        if holder(session, &run.name).await?.is_some() {
            seen = Instant::now();
        } else if seen.elapsed() >= ABSENT {
            withdraw(session, &run.name, id).await?;
            return Err(Error::failed("RUN_ENDED", format!("the process of run \"{}\" has ended", run.name))
                .hint("start it again with the same command; it finishes or rolls back what it had begun"));
        }
    }
}

fn answered(request: Option<Request>) -> Option<Answer> {
    let request = request?;
    match request.state {
        RequestState::Done => Some(Answer::Done(request.result.unwrap_or_default())),
        RequestState::Failed => Some(Answer::Failed(request.result.unwrap_or_default())),
        _ => None,
    }
}

/// What the serving process changes in its request, and when that was seen; both clocks are ours.
struct SignsOfLife {
    last: Option<(RequestState, Value)>,
    at: Instant,
}

impl SignsOfLife {
    fn look(&mut self, request: &Request) {
        let now = (request.state, request.args.clone());
        if self.last.as_ref() != Some(&now) {
            self.at = if self.last.is_some() { Instant::now() } else { self.at };
            self.last = Some(now);
        }
    }
}

fn silent(run: &Run, waited: Duration, withdrawn: bool) -> Error {
    let name = &run.name;
    let error = Error::failed(
        "REQUEST_TIMEOUT",
        format!("the process of run \"{name}\" has given no sign of life for {} s", waited.as_secs()),
    );
    if withdrawn {
        error.detail("the request is withdrawn; the source is as it was once that process is gone").hint(format!(
            "end the process and start it again, then ask again; if its host can't be reached, on the source: SELECT \
             pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '% (fence)' lets waiting writers through, \
             and see: walferry status --name {name}"
        ))
    } else {
        error
            .detail("it had begun to hand over, which can't be withdrawn any more")
            .hint(format!("end the process and start it again: it finishes or rolls back; see: walferry status --name {name}"))
    }
}

/// Takes the request back; true when the process had begun with it.
async fn withdraw(session: &Session, run: &str, id: i64) -> Result<bool> {
    match Request::read(session, id).await? {
        Some(request) if request.state == RequestState::Requested => {
            Request::advance(session, run, id, RequestState::Failed, None, None).await?;
            Ok(false)
        }
        Some(request) => Ok(request.state == RequestState::Running),
        None => Ok(false),
    }
}

fn not_running(run: &Run) -> Error {
    Error::refuse("NOT_RUNNING", format!("no process runs \"{}\" at the moment", run.name))
        .hint("start it with the same command as before, on any host, then ask again")
}

/// The process's own words as an error.
#[must_use]
pub fn failure(result: &Value, otherwise: &str) -> Error {
    let text = |key: &str| result[key].as_str().map(str::to_owned);
    let code = text("code").unwrap_or_else(|| "FAILED".to_owned());
    let message = text("message").unwrap_or_else(|| otherwise.to_owned());
    let mut error = match code.as_str() {
        "NOT_LIVE" => Error::refuse(code, message),
        _ => Error::failed(code, message),
    };
    if let Some(detail) = text("detail") {
        error = error.detail(detail);
    }
    if let Some(hint) = text("hint") {
        error = error.hint(hint);
    }
    error
}
