//! `walferry cutover`: asks the running process to hand over.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pg::{Error, Result};
use serde_json::{Value, json};
use writer::control::{CutoverState, RequestKind, Step};

use super::ask::{Answer, Patience, ask, failure};
use super::options::{Flags, Overrides};
use super::{Context, Exit, target};
use crate::config::{CutoverVerify, Needs, Value as _};
use crate::foreign::{is_foreign, no_source};
use crate::output;

/// Hand over to the target of a running migrate or replicate, from any host.
///
/// Verifies beside the load, then blocks the source's writers, drains, checks, sets sequences and opens the target; prints the
/// downtime in ms. On any failure or timeout before the target is opened the source is put back exactly as it was (exit code 1).
#[derive(Args, Clone, Debug)]
pub struct CutoverArgs {
    /// Bounds lock, drain and last check together; then it rolls back [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// What is compared before the target is opened: rows changed since the full verification, everything, nothing [default: changed]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(CutoverVerify::WORDS))]
    pub verify: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Overrides for CutoverArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("cutover.timeout", "--timeout", &self.timeout);
        flags.text("cutover.verify", "--verify", &self.verify);
    }
}

/// A busy process may be late with its signs of life, which come every 2 s.
const SLACK: Duration = Duration::from_secs(10);

pub async fn run(args: CutoverArgs, context: Context) -> Result<Exit> {
    let (session, run) = target::existing_run(&context, "cutover").await?;
    let name = &run.name;
    if run.cutover == Some(CutoverState::Open) {
        if args.json {
            output::print_json(&json!({"ok": true, "name": name, "already": true}))?;
        } else {
            output::print(&format!("run \"{name}\" is cut over already: the target is the primary"))?;
        }
        return Ok(Exit::Done);
    }
    if is_foreign(&run) {
        return Err(no_source(name, "hand over from").hint(format!(
            "stop the applications that write to the connector's source, wait until nothing is behind (walferry status --name {name}), compare \
             (walferry verify --name {name} --source URI), stop walferry write, and let the applications write to the target"
        )));
    }
    if run.step < Step::Live {
        return Err(Error::refuse("NOT_LIVE", format!("run \"{name}\" is not live yet: step {}", run.step))
            .hint(format!("wait for it: walferry status --name {name} --wait live")));
    }
    let settings = context.settings_of(&run, Needs::Target)?.cutover;
    let asked = json!({
        "timeout_ms": u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
        "verify": settings.verify.show(),
    });
    context.reporter.note(match settings.verify {
        CutoverVerify::Changed => "asked for the cutover; both sides are compared first, beside the load",
        CutoverVerify::Full | CutoverVerify::None => "asked for the cutover",
    });
    let patience = Patience::SignOfLife(settings.timeout + SLACK);
    match ask(&session, &run, RequestKind::Cutover, &asked, patience, &context.cancel).await? {
        Answer::Done(result) => {
            done(name, &result, args.json)?;
            Ok(Exit::Done)
        }
        Answer::Failed(result) => {
            if args.json {
                let mut result = result.clone();
                result["name"] = json!(name);
                output::print_json(&result)?;
            }
            Err(failure(&result, "the cutover was rolled back; the source is as it was"))
        }
        Answer::Interrupted { running } => {
            if running {
                context.reporter.warning(
                    "the running process goes on with the cutover",
                    Some(format!("see how it ends: walferry status --name {name}")),
                );
            }
            Ok(Exit::Interrupted)
        }
    }
}

fn done(name: &str, result: &Value, json: bool) -> Result<()> {
    if json {
        let mut result = result.clone();
        result["name"] = json!(name);
        return output::print_json(&result);
    }
    let number = |key: &str| result[key].as_f64().unwrap_or(0.0);
    let mut text = format!("cut over: the target is the primary; downtime {:.0} ms", number("downtime_ms"));
    let failed = number("failed_attempts");
    if failed > 0.0 {
        text.push_str(&format!(
            "\n{failed:.0} attempts before failed to get the locks, {:.0} ms in all",
            number("stall_ms")
        ));
    }
    if let Some(marker) = result["marker_lsn"].as_str() {
        text.push_str(&format!("\neverything up to the marker at {marker} was applied"));
    }
    let count = |key: &str| result[key].as_u64().unwrap_or(0);
    text.push_str(&format!(
        "\n{} sequences set, {} materialized views refreshed",
        count("sequences"),
        count("matviews")
    ));
    text.push_str(
        "\nthe source refuses writes from now on (SQLSTATE 25006); walferry clean removes slot and records",
    );
    output::print(&text)
}
