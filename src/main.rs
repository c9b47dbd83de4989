//! walferry: moves a live PostgreSQL database into another one and keeps the copy fed.
//!
//! ```text
//! cli/      one command a file: options in, exit code out
//! connector/ a Debezium connector's configuration, as it is
//! http/     health and metrics, for those who ask
//! foreign/  write --from debezium: a target fed from the topics of a Debezium connector
//! config/   typed settings out of command line, environment, file, and what the run has recorded
//! output/   results on stdout; progress, warnings and errors on stderr
//! outbox/   committed events to Kafka, without a target
//! run/      the fixed sequence of migrate, replicate, write and copy
//! read/     the reader as a service of its own, with Kafka behind it
//! ```

mod cli;
mod compare;
mod config;
mod connector;
mod foreign;
mod http;
mod load;
mod outbox;
mod output;
mod preflight;
mod read;
mod run;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints();
    cli::main()
}

/// Reads the variable FAILPOINTS. A `panic` there ends the process at once and without any cleaning up, as a crash would.
#[cfg(feature = "failpoints")]
fn failpoints() -> fail::FailScenario<'static> {
    if std::env::var_os("FAILPOINTS").is_some() {
        std::panic::set_hook(Box::new(|_| std::process::abort()));
    }
    fail::FailScenario::setup()
}
