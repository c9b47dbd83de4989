//! The log: state changes of the parts, through `tracing`, on stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::stderr::Stderr;
use crate::config::LogFormat;

/// Crates whose detail `-v` shows; the libraries below them stay at warnings.
const OURS: [&str; 5] = ["walferry", "pg", "pipeline", "reader", "writer"];

/// Starts logging for this process; a second call changes nothing.
pub fn start(format: LogFormat, verbosity: usize, stderr: Stderr) {
    let level = ["warn", "info", "debug", "trace"][verbosity.min(3)];
    let ours: Vec<String> = OURS.iter().map(|name| format!("{name}={level}")).collect();
    let filter = EnvFilter::new(format!("warn,{}", ours.join(",")));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(verbosity > 1);
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(false).compact().try_init(),
    };
}

/// The time as the log writes it.
#[must_use]
pub fn now() -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}
