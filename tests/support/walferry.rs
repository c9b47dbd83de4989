//! The program under test, as a user runs it: the real binary, its real exit code and output.
//!
//! ```ignore
//! let walferry = Walferry::new(&source.uri("app"), &target.uri("app")).name("x");
//! walferry.command("check").run().await.expect_code(0);
//! let run = walferry.command("migrate").arg("--jobs").arg("2").failpoint("after_slot", "pause").spawn();
//! run.wait_for_step("live").await;
//! run.kill9().await;
//! ```
//!
//! The two URIs travel in the environment, so that an argument can still override them. Every wait has a limit
//! and fails with what the program wrote.

mod running;
mod status;

pub use running::Running;
pub use status::{Status, lsn};

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{canary, programs, scratch};

/// One run (source, target, name) and, as a builder, one command on it.
#[derive(Clone, Debug)]
pub struct Walferry {
    source: String,
    target: String,
    name: Option<String>,
    command: Vec<String>,
    failpoints: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    /// A program and its arguments that run the binary.
    wrapper: Vec<String>,
    log: Option<PathBuf>,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// The exit code, or 128 + the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Walferry {
    pub fn new(source: &str, target: &str) -> Self {
        Self {
            source: canary::with_password(source),
            target: canary::with_password(target),
            name: None,
            command: Vec::new(),
            failpoints: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            log: None,
        }
    }

    /// Every command of this run gets `--name`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// A command of this run, without the arguments and failpoints of the one before.
    pub fn command(&self, command: &str) -> Self {
        Self { command: vec![command.to_owned()], failpoints: Vec::new(), log: None, ..self.clone() }
    }

    pub fn arg(mut self, argument: &str) -> Self {
        self.command.push(argument.to_owned());
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Activates a failpoint, with the actions of the crate `fail` (`panic`, `return`, `pause`, `1*sleep(500)`).
    pub fn failpoint(mut self, name: &str, action: &str) -> Self {
        self.failpoints.push((name.to_owned(), action.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Every command of this run is started by another program: `ip netns exec …`, `prlimit …`, which must replace itself by it.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Standard error goes to this file.
    pub fn log_to(mut self, file: &std::path::Path) -> Self {
        self.log = Some(file.to_owned());
        self
    }

    pub fn run_name(&self) -> &str {
        self.name.as_deref().unwrap_or("walferry")
    }

    /// Runs the command to its end.
    pub async fn run(&self) -> Output {
        self.spawn().wait_exit_within(Duration::from_secs(120)).await
    }

    /// Starts the command.
    pub fn spawn(&self) -> Running {
        Running::start(self.clone())
    }

    /// What `status --json` says, whether the run is running or not; `None` when there is no such run (yet).
    pub async fn try_status(&self) -> Option<Status> {
        let output = self.command("status").arg("--json").run().await;
        match output.code {
            0 => Some(Status::parse(&output.stdout)),
            4 => None,
            // The target is down or the schema is being made: ask again.
            1 | 3 => None,
            _ => panic!("status: {output:#?}"),
        }
    }

    pub async fn status(&self) -> Status {
        self.try_status().await.expect("status knows the run")
    }

    fn prepare(&self, folder: &std::path::Path) -> Command {
        const PROGRAM: &str = env!("CARGO_BIN_EXE_walferry");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(PROGRAM),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(PROGRAM);
                command
            }
        };
        command.args(&self.command);
        if let Some(name) = &self.name {
            command.args(["--name", name]);
        }
        for (name, _) in std::env::vars() {
            if name.starts_with("WALFERRY_") || name.starts_with("PG") || name == "FAILPOINTS" {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let clients = programs::client("");
        command
            .env("PATH", format!("{}:{path}", clients.display()))
            .env("WALFERRY_SOURCE", &self.source)
            .env("WALFERRY_TARGET", &self.target)
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().cloned())
            .current_dir(folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if !self.failpoints.is_empty() {
            let list: Vec<String> = self.failpoints.iter().map(|(n, a)| format!("{n}={a}")).collect();
            command.env("FAILPOINTS", list.join(";"));
        }
        command
    }

    fn folder() -> PathBuf {
        scratch::folder("run")
    }
}

impl Output {
    /// Fails with the whole output when the exit code is another one.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self:#?}"))
    }

    /// Both streams, for assertions on what was or was not said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}
