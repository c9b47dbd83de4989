//! Shows the reports of a run: live on a terminal, as lines of text, or as JSON.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use pg::Error;
use pipeline::{Report, Reporter};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::stderr::Stderr;
use super::terminal::Terminal;
use super::{json, lines, log};
use crate::config::LogFormat;

/// Without a terminal, how often a table on its way and the stream get a line of their own.
const STILL_THERE: Duration = Duration::from_secs(30);

/// The one place that writes to stderr while a command works.
pub struct Display {
    reporter: Reporter,
    format: LogFormat,
    shows: JoinHandle<()>,
}

impl Display {
    /// Starts logging and the task that shows reports. `live`: draw progress if stderr is a terminal.
    #[must_use]
    pub fn start(format: LogFormat, verbosity: usize, live: bool) -> Display {
        let stderr = Stderr::default();
        log::start(format, verbosity, stderr.clone());
        let (reporter, queue) = Reporter::new();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live =
            live && verbosity > 0 && format == LogFormat::Text && std::io::stderr().is_terminal() && !dumb;
        let shows = if live {
            tokio::spawn(Terminal::new(stderr).run(queue))
        } else {
            tokio::spawn(plain(format, verbosity, stderr, queue))
        };
        Display { reporter, format, shows }
    }

    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    pub fn error(&self, error: &Error) {
        super::error(error, self.format);
    }

    /// Shows what is still waiting. The command has ended; parts of it that hold a reporter may not have.
    pub async fn finish(self) {
        drop(self.reporter);
        let _ = tokio::time::timeout(Duration::from_secs(1), self.shows).await;
    }
}

/// The same error is said once, until the run has got further.
#[derive(Default)]
pub(super) struct Said {
    blocked: Option<(String, String)>,
}

impl Said {
    /// A repetition of what was said last.
    pub(super) fn again(&mut self, report: &Report) -> bool {
        match report {
            Report::Blocked { code, message, .. } => {
                let now = Some((code.clone(), message.clone()));
                let again = self.blocked == now;
                self.blocked = now;
                again
            }
            Report::Step { .. } | Report::Live { .. } | Report::Resumed { .. } | Report::TableDone { .. } => {
                self.blocked = None;
                false
            }
            _ => false,
        }
    }
}

/// Lines or JSON.
async fn plain(format: LogFormat, verbosity: usize, stderr: Stderr, mut queue: mpsc::Receiver<Report>) {
    let mut last_shown: BTreeMap<String, Instant> = BTreeMap::new();
    let mut said = Said::default();
    while let Some(report) = queue.recv().await {
        if said.again(&report) {
            continue;
        }
        if verbosity == 0
            && !matches!(report, Report::Warning { .. } | Report::Blocked { .. } | Report::Lost { .. })
        {
            continue;
        }
        if !due(&mut last_shown, &report) {
            continue;
        }
        match format {
            LogFormat::Json => json::show(&stderr, &report),
            LogFormat::Text => {
                let line = match &report {
                    // A short table is one line, not two.
                    Report::TableStarted { .. } if verbosity < 2 => None,
                    // A schema has many indexes; those of small tables are told apart by nobody.
                    Report::IndexDone { took, .. } if verbosity < 2 && *took < Duration::from_secs(1) => None,
                    Report::TableProgress { table, rows, bytes } => Some(format!(
                        "{}: {} rows, {} so far",
                        lines::name(table),
                        super::count(*rows),
                        super::bytes(*bytes)
                    )),
                    Report::Live { applied, lag_bytes, lag_ms, rate } => Some(format!(
                        "live: applied {applied}, {}{} behind, {rate:.0} changes/s",
                        super::bytes(*lag_bytes),
                        lag_ms.map_or_else(String::new, |ms| format!(" and {ms} ms"))
                    )),
                    report => lines::line(report),
                };
                if let Some(line) = line {
                    stderr.write(&format!("{} {}\n", log::now(), super::redact(&line)));
                }
            }
        }
    }
}

/// State changes always; what only says how far something is, now and then.
fn due(last_shown: &mut BTreeMap<String, Instant>, report: &Report) -> bool {
    let key = match report {
        Report::TableProgress { table, .. } => table.to_string(),
        Report::TableStarted { table, .. } => {
            last_shown.insert(table.to_string(), Instant::now());
            return true;
        }
        Report::TableDone { table, .. } => {
            last_shown.remove(&table.to_string());
            return true;
        }
        Report::Live { .. } => String::new(),
        _ => return true,
    };
    let now = Instant::now();
    match last_shown.get(&key) {
        Some(last) if now.duration_since(*last) < STILL_THERE => false,
        _ => {
            last_shown.insert(key, now);
            true
        }
    }
}
