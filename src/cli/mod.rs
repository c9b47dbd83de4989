//! The command line: one command a file.
//!
//! ```text
//! argv ──► clap ──► layers ──► Settings ──► the command ──► exit code
//! ```
//!
//! Names, options, exit codes and JSON fields are fixed: scripts of users rest on them.

mod ask;
mod check;
mod clean;
mod config;
mod context;
mod copy;
mod cutover;
mod exit;
mod migrate;
mod options;
mod outbox;
mod read;
mod refresh;
mod replicate;
mod sequence;
mod skip;
mod status;
mod target;
mod verify;
mod write;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pg::Result;
use tokio_util::sync::CancellationToken;

use crate::config::{Layers, Needs, ProgressMode, Settings, fields};
use crate::connector::{self, Property};
use crate::output::{self, Display};
use crate::signals::Signals;

pub use context::Context;
pub use exit::Exit;
pub use options::{Common, Flags, Overrides};

/// Moves a live PostgreSQL database into another one and keeps the copy fed.
///
/// The slot comes first, then the snapshot, then the WAL from that exact point: exactly once, in commit order, in whole transactions.
/// Everything a run knows stands in the two databases: after any interruption the same command goes on, on any host.
#[derive(Parser, Debug)]
#[command(
    name = "walferry",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done or equal; 1 failed or different; 2 bad usage or configuration; 3 could not verify or look;\n\
        4 refused, nothing changed (status: no such run; check: a run would be refused); 130/143 ended by SIGINT/SIGTERM, the same command resumes."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(check::CheckArgs),
    Migrate(migrate::MigrateArgs),
    Replicate(replicate::ReplicateArgs),
    Copy(copy::CopyArgs),
    Read(read::ReadArgs),
    Write(write::WriteArgs),
    Status(status::StatusArgs),
    Cutover(cutover::CutoverArgs),
    Refresh(refresh::RefreshArgs),
    Skip(skip::SkipArgs),
    Verify(verify::VerifyArgs),
    Clean(clean::CleanArgs),
    Outbox(outbox::OutboxArgs),
    Config(config::ConfigArgs),
}

impl Command {
    fn overrides(&self) -> &dyn Overrides {
        match self {
            Command::Check(args) => args,
            Command::Migrate(args) => args,
            Command::Replicate(args) => args,
            Command::Copy(args) => args,
            Command::Read(args) => args,
            Command::Write(args) => args,
            Command::Status(args) => args,
            Command::Cutover(args) => args,
            Command::Refresh(args) => args,
            Command::Skip(args) => args,
            Command::Verify(args) => args,
            Command::Clean(args) => args,
            Command::Outbox(args) => args,
            Command::Config(args) => args,
        }
    }

    fn needs(&self) -> Needs {
        match self {
            Command::Check(args) if args.outbox => Needs::Source,
            Command::Check(_) | Command::Migrate(_) | Command::Replicate(_) | Command::Copy(_) => Needs::Both,
            Command::Write(args) if args.is_foreign() => Needs::Target,
            Command::Write(_) => Needs::Both,
            Command::Read(_) => Needs::Source,
            Command::Config(_) => Needs::Nothing,
            Command::Outbox(args) => args.needs(),
            _ => Needs::Target,
        }
    }

    /// Only looks: what keeps it from looking is exit code 3.
    fn looks(&self) -> bool {
        matches!(self, Command::Check(_) | Command::Status(_) | Command::Verify(_))
    }

    /// Reads no configuration: what explains it has to work with one that is wrong.
    fn only_explains(&self) -> bool {
        matches!(self, Command::Config(args) if args.only_explains())
    }

    /// A connector's files, and the tables that say what becomes of their properties.
    fn connector(&self) -> Option<(Vec<&Path>, Vec<&'static [Property]>)> {
        let (paths, tables): (Vec<&Path>, _) = match self {
            Command::Config(args) => (args.connector(), connector::tables_of(&args.connector())),
            Command::Outbox(args) => (args.connector(), vec![connector::OUTBOX, connector::SOURCE]),
            Command::Write(args) => {
                (args.connector.as_deref().into_iter().collect(), vec![connector::WRITER, connector::SOURCE])
            }
            Command::Read(args) => {
                (args.connector.iter().map(AsRef::as_ref).collect(), vec![connector::SOURCE])
            }
            _ => return None,
        };
        (!paths.is_empty()).then_some((paths, tables))
    }

    async fn run(self, context: Context) -> Result<Exit> {
        // Boxed: the futures of the sequence are large.
        match self {
            Command::Check(args) => Box::pin(check::run(args, context)).await,
            Command::Migrate(args) => Box::pin(migrate::run(args, context)).await,
            Command::Replicate(args) => Box::pin(replicate::run(args, context)).await,
            Command::Copy(args) => Box::pin(copy::run(args, context)).await,
            Command::Read(args) => Box::pin(read::run(args, context)).await,
            Command::Write(args) => Box::pin(write::run(args, context)).await,
            Command::Status(args) => Box::pin(status::run(args, context)).await,
            Command::Cutover(args) => Box::pin(cutover::run(args, context)).await,
            Command::Refresh(args) => Box::pin(refresh::run(args, context)).await,
            Command::Skip(args) => Box::pin(skip::run(args, context)).await,
            Command::Verify(args) => Box::pin(verify::run(args, context)).await,
            Command::Clean(args) => Box::pin(clean::run(args, context)).await,
            Command::Outbox(args) => Box::pin(outbox::run(args, context)).await,
            Command::Config(args) => config::run(args, &context),
        }
    }
}

/// The layers of what was given: command line, `--set`, environment, file.
fn layers(cli: &Cli) -> Layers {
    let mut layers = Layers::default();
    if cli.command.only_explains() {
        return layers;
    }
    let mut flags = Flags(&mut layers);
    cli.common.assign(&mut flags);
    cli.command.overrides().assign(&mut flags);
    let fields = fields();
    layers.add_sets(&cli.common.sets);
    layers.add_environment(&fields, environment());
    let tables = cli.command.connector();
    if let Some((files, tables)) = &tables {
        layers.add_connector(files, tables);
    }
    let variable = || std::env::var_os("WALFERRY_CONFIG").filter(|file| !file.is_empty());
    let file = cli.common.config.clone().or_else(|| variable().map(Into::into));
    if let Some(file) = file {
        layers.add_file(&file);
    }
    layers.translate(&fields, &tables.map_or_else(|| vec![connector::SOURCE], |(_, tables)| tables));
    layers.refuse_unknown(&fields);
    layers
}

/// The form of messages about a command line that can't be read: what is recognizable in it says so, else the environment.
fn asks_for_json(arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let after = |option: &str, prefix: &str| {
        words.iter().enumerate().rev().find_map(|(at, word)| {
            let value = if word == option {
                words.get(at + 1)?.as_str()
            } else {
                word.strip_prefix(option)?.strip_prefix('=')?
            };
            value.strip_prefix(prefix).map(str::to_owned)
        })
    };
    after("--log-format", "")
        .or_else(|| after("--set", "log.format="))
        .or_else(|| std::env::var("WALFERRY_LOG_FORMAT").ok())
        .is_some_and(|format| format.trim() == "json")
}

/// Variables that are no text can't be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The whole process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error, asks_for_json(std::env::args_os())),
    };
    let layers = layers(&cli);
    let json = layers.text("log.format").is_some_and(|format| format.trim() == "json");
    let settings = match Settings::read(&layers, cli.command.needs()) {
        Ok(settings) => settings,
        Err(error) => {
            layers.warnings.iter().for_each(|warning| output::early_warning(warning, json));
            output::early_error(&error, json);
            return ExitCode::from(Exit::of(&error).code(None));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::early_error(&pg::Error::failed("RUNTIME", error.to_string()), json);
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli, layers, settings));
    // A blocked write to a dead terminal must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    kafka::settle(std::time::Duration::from_millis(300));
    ExitCode::from(code)
}

/// A command that was asked to end and waits for something else. Ending it here is what a crash would be: the next start goes on.
async fn out_of_patience(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
}

async fn run(cli: Cli, layers: Layers, settings: Settings) -> u8 {
    let log = settings.log.clone();
    let live = log.progress == ProgressMode::Auto;
    let display = Display::start(log.format, log.verbosity, live);
    let cancel = CancellationToken::new();
    let signals = match Signals::watch(cancel.clone()) {
        Ok(signals) => signals,
        Err(error) => {
            display.error(&pg::Error::failed("SIGNALS", error.to_string()));
            return 1;
        }
    };
    let looks = cli.command.looks();
    let reporter = display.reporter();
    layers.warnings.iter().for_each(|warning| reporter.warning(warning.clone(), None));
    layers.notes.iter().for_each(|note| reporter.note(note.clone()));
    drop(reporter);
    let context = Context::new(layers, settings, display.reporter(), cancel.clone());
    let ended = tokio::select! {
        ended = cli.command.run(context) => ended,
        () = out_of_patience(&cancel) => Ok(Exit::Interrupted),
    };
    display.finish().await;
    let exit = match ended {
        Ok(exit) => exit,
        // What was cut short by the signal is no failure of its own.
        Err(error) if signals.exit_code().is_some() => {
            tracing::debug!(%error, "ended by a signal");
            Exit::Interrupted
        }
        Err(error) => {
            output::error(&error, log.format);
            if looks { Exit::of_looking(&error) } else { Exit::of(&error) }
        }
    };
    exit.code(signals.exit_code())
}
