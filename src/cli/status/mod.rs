//! `walferry status`: where a run stands.
//!
//! Everything comes from the target, so it answers from any host, with or without a running process and with the source away.

mod state;
mod text;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use pg::{Class, Error, Lsn, Params, Purpose, Result, Session};
use tokio::time::{Instant, sleep, timeout_at};
use writer::control::Step;

use super::options::{Flags, Overrides};
use super::{Context, Exit};
use crate::config::Value;
use crate::output;

pub use state::State;

/// Show where a run stands, from the target alone; also while nothing runs.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Redraw every second until interrupted
    #[arg(long, conflicts_with = "wait")]
    pub watch: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Return when the run is live, or has applied everything up to this LSN; 1 when the timeout passes first
    #[arg(long, value_name = "live|LSN")]
    pub wait: Option<String>,
    /// How long --wait waits
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub timeout: String,
}

impl Overrides for StatusArgs {
    fn assign(&self, _flags: &mut Flags<'_>) {}
}

/// What `--wait` waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    Live,
    Applied(Lsn),
}

impl Goal {
    fn parse(text: &str) -> Result<Goal> {
        if text.eq_ignore_ascii_case("live") {
            return Ok(Goal::Live);
        }
        text.parse().map(Goal::Applied).map_err(|error| {
            Error::usage(format!("--wait: {error}")).hint("walferry status --wait live, or --wait 0/16B3748")
        })
    }

    fn reached(self, state: &State) -> bool {
        match self {
            Goal::Live => state.run.step >= Step::Live,
            Goal::Applied(lsn) => state.applied().is_some_and(|applied| applied >= lsn),
        }
    }
}

/// How often a wait looks again: one small query.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const REDRAW: Duration = Duration::from_secs(1);

pub async fn run(args: StatusArgs, context: Context) -> Result<Exit> {
    let goal = args.wait.as_deref().map(Goal::parse).transpose()?;
    let patience = Duration::read(&args.timeout).map_err(|why| Error::usage(format!("--timeout: {why}")))?;
    let mut look = Look::new(context.settings.target()?, context.settings.name());
    let ended = async {
        match goal {
            Some(goal) => wait(&mut look, goal, patience, args.json).await,
            None if args.watch => watch(&mut look, args.json).await,
            None => once(&mut look, args.json).await,
        }
    };
    tokio::select! {
        ended = ended => ended,
        () = context.cancel.cancelled() => Ok(Exit::Interrupted),
    }
}

/// A connection to the target that is opened again when it was lost.
struct Look {
    params: Params,
    name: String,
    session: Option<Session>,
}

impl Look {
    fn new(params: Params, name: &str) -> Look {
        Look { params, name: name.to_owned(), session: None }
    }

    /// `None`: there is no such run.
    async fn at(&mut self) -> Result<Option<State>> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let application_name = format!("{} (status)", self.name);
                Session::connect(&self.params, Purpose::Query, &application_name)
                    .await
                    .map_err(|error| error.context("target"))?
            }
        };
        let state = State::read(&session, &self.name).await?;
        self.session = Some(session);
        Ok(state)
    }
}

async fn once(look: &mut Look, json: bool) -> Result<Exit> {
    match look.at().await? {
        Some(state) => print(&state, json).map(|()| Exit::Done),
        None => Err(no_such_run(&look.name)),
    }
}

/// Lost connections are waited out; a wait that began before the run did goes on until there is one.
async fn wait(look: &mut Look, goal: Goal, patience: Duration, json: bool) -> Result<Exit> {
    let deadline = Instant::now() + patience;
    let mut last: Result<Option<State>> = Ok(None);
    loop {
        match timeout_at(deadline, look.at()).await {
            Err(_) => break,
            Ok(Err(error)) if error.class() != Class::Connection => return Err(error),
            Ok(found) => {
                if let Ok(Some(state)) = &found
                    && goal.reached(state)
                {
                    return print(state, json).map(|()| Exit::Done);
                }
                last = found;
            }
        }
        if Instant::now() + LOOK_AGAIN >= deadline {
            break;
        }
        sleep(LOOK_AGAIN).await;
    }
    match last? {
        None => Err(no_such_run(&look.name)),
        Some(state) => {
            print(&state, json)?;
            let waited = output::duration(patience);
            let mut error =
                Error::failed("WAIT_TIMEOUT", format!("not reached within {waited}: {}", describe(goal)));
            if let Some(why) = &state.run.error {
                error = error.detail(format!("the run waits: {} [{}]", why.message, why.code));
            } else if state.holder.is_none() {
                error = error.detail("no process runs it");
            }
            Err(error)
        }
    }
}

fn describe(goal: Goal) -> String {
    match goal {
        Goal::Live => "live".to_owned(),
        Goal::Applied(lsn) => format!("applied {lsn}"),
    }
}

async fn watch(look: &mut Look, json: bool) -> Result<Exit> {
    let screen = std::io::stdout().is_terminal() && !json;
    loop {
        let shown = match look.at().await {
            Ok(Some(state)) if json => state.to_json().to_string(),
            Ok(Some(state)) => text::render(&state),
            Ok(None) => return Err(no_such_run(&look.name)),
            Err(error) if error.class() == Class::Connection => {
                format!("the target can't be reached: {error}\n")
            }
            Err(error) => return Err(error),
        };
        // Home, the text with each line cleared to its end, then everything below: no flicker.
        let framed = format!("\x1b[H{}\x1b[J", shown.replace('\n', "\x1b[K\n"));
        output::print(if screen { &framed } else { &shown })?;
        sleep(REDRAW).await;
    }
}

fn print(state: &State, json: bool) -> Result<()> {
    if json { output::print_json(&state.to_json()) } else { output::print(&text::render(state)) }
}

/// Exit code 4.
fn no_such_run(name: &str) -> Error {
    Error::refuse("NO_SUCH_RUN", format!("there is no run \"{name}\" in this target"))
        .hint("the run's --name and the --target that it writes to are needed")
}
