//! `walferry refresh`: a live run looks at its publications again.

use std::time::Duration;

use clap::Args;
use pg::{Error, Result};
use serde_json::{Value, json};
use writer::control::RequestKind;

use super::ask::{Answer, Patience, ask, failure};
use super::options::{Flags, Overrides};
use super::{Context, Exit, target};
use crate::config::{Value as _, unquote};
use crate::foreign::{is_foreign, no_source};
use crate::output;

/// Make a live run look at its publications again: new tables are copied and join, others leave.
///
/// A start of the run does the same.
#[derive(Args, Clone, Debug)]
pub struct RefreshArgs {
    /// New tables join as they are, uncopied
    #[arg(long)]
    pub no_copy: bool,
    /// From now on follow these publications
    #[arg(long, value_name = "NAME[,NAME…]")]
    pub publication: Vec<String>,
    /// How long to wait for the running process
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub timeout: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Overrides for RefreshArgs {
    fn assign(&self, _flags: &mut Flags<'_>) {}
}

pub async fn run(args: RefreshArgs, context: Context) -> Result<Exit> {
    let patience = Duration::read(&args.timeout).map_err(|why| Error::usage(format!("--timeout: {why}")))?;
    let publications = Vec::<String>::read_given(&args.publication, false)
        .map(unquote)
        .map_err(|why| Error::usage(format!("--publication: {why}")))?;
    let (session, run) = target::existing_run(&context, "refresh").await?;
    if is_foreign(&run) {
        return Err(no_source(&run.name, "look at")
            .hint("tables join by themselves, as soon as their topics are there"));
    }
    let asked = json!({"no_copy": args.no_copy, "publications": publications});
    context.reporter.note("asked the running process to look at its publications again");
    match ask(&session, &run, RequestKind::Refresh, &asked, Patience::Answer(patience), &context.cancel)
        .await?
    {
        Answer::Done(result) => {
            if args.json {
                output::print_json(&result)?;
            } else {
                output::print(&text(&result))?;
            }
            Ok(Exit::Done)
        }
        Answer::Failed(result) => Err(failure(&result, "the publications could not be looked at")),
        Answer::Interrupted { .. } => Ok(Exit::Interrupted),
    }
}

/// `{"joined": […], "left": […], "altered": […]}`, as far as the process says it.
fn text(result: &Value) -> String {
    let mut lines = Vec::new();
    for (key, what) in [("joined", "joined"), ("left", "left"), ("altered", "changed")] {
        for table in result[key].as_array().into_iter().flatten() {
            lines.push(format!("{} {what}", table.as_str().unwrap_or_default()));
        }
    }
    if lines.is_empty() {
        "the run follows its publications as they are now".to_owned()
    } else {
        lines.join("\n")
    }
}
