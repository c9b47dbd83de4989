//! What the parts of a run tell about themselves while they work: plain data, one way, never waited for.
//!
//! ```text
//! reader ─┐
//! writer ─┼─ Reporter ── Report ──► whoever shows it (a terminal, lines of text, JSON), or nobody
//! src    ─┘
//! ```
//!
//! A [`Reporter`] is cheap to clone and never blocks. When whoever shows the reports is slow, those that only say how far something
//! is are left out first; a state change is lost only when thousands of them wait. Reports carry names and numbers, never values.

mod meter;

use std::time::Duration;

use pg::{Error, Lsn, QualifiedName};
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

pub use meter::TableMeter;

/// Reports that may wait to be shown.
const ROOM: usize = 16 * 1024;

/// One thing that happened, or how far something is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Report {
    /// A step of the sequence begins (`preflight slot schema copy indexes catchup live cutover done`, also `verify`, `clean`); the
    /// one before has ended.
    Step { step: String },
    /// What the step that has begun is going to move or compare.
    Planned { tables: u64, bytes: u64 },
    /// Rows of a table are on their way (copy) or being compared (verify). `rows_estimate` and `bytes` are of the whole table.
    TableStarted {
        #[serde(serialize_with = "as_text")]
        table: QualifiedName,
        rows_estimate: Option<u64>,
        bytes: Option<u64>,
    },
    /// Totals since the table's start.
    TableProgress {
        #[serde(serialize_with = "as_text")]
        table: QualifiedName,
        rows: u64,
        bytes: u64,
    },
    TableDone {
        #[serde(serialize_with = "as_text")]
        table: QualifiedName,
        rows: u64,
        bytes: u64,
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        took: Duration,
    },
    /// An index or a constraint is being built; `table` is what it belongs to.
    IndexStarted {
        name: String,
        #[serde(serialize_with = "as_text")]
        table: QualifiedName,
    },
    IndexDone {
        name: String,
        #[serde(serialize_with = "as_text")]
        table: QualifiedName,
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        took: Duration,
    },
    /// Where the stream is; about once a second. `lag_ms` is none while unknown; `rate` is row changes applied per second.
    Live {
        #[serde(serialize_with = "as_text")]
        applied: Lsn,
        lag_bytes: u64,
        lag_ms: Option<u64>,
        rate: f64,
    },
    /// A connection is gone and is being opened again. `side` is `source` or `target`.
    Lost { side: &'static str, reason: String },
    /// … and is back.
    Resumed {
        side: &'static str,
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        after: Duration,
    },
    /// The run can't go on and tries again until somebody has acted, or, before it has begun, `attempts` more times. Said once for each
    /// different error.
    Blocked {
        code: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        attempts: Option<u32>,
    },
    /// Something worth one line.
    Note { text: String },
    /// Something that a person should look at, now or later.
    Warning { text: String, hint: Option<String> },
    /// The end of a run or a step in a few lines: label and value.
    Summary { title: String, lines: Vec<(String, String)> },
}

impl Report {
    /// Only says how far something is: the next one replaces it.
    #[must_use]
    pub fn is_progress(&self) -> bool {
        matches!(self, Report::TableProgress { .. } | Report::Live { .. })
    }
}

fn as_text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_seconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// The end into which reports go. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    queue: Option<mpsc::Sender<Report>>,
}

impl Reporter {
    /// A reporter and the queue of whoever shows what it says. The queue ends when the last clone is gone.
    #[must_use]
    pub fn new() -> (Reporter, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        (Reporter { queue: Some(sender) }, receiver)
    }

    /// A reporter that nobody listens to.
    #[must_use]
    pub fn silent() -> Reporter {
        Reporter::default()
    }

    /// Never blocks.
    pub fn send(&self, report: Report) {
        let Some(queue) = &self.queue else { return };
        if report.is_progress() && queue.capacity() < ROOM / 2 {
            return;
        }
        // Full or closed: nobody looks.
        let _ = queue.try_send(report);
    }

    pub fn step(&self, step: impl Into<String>) {
        self.send(Report::Step { step: step.into() });
    }

    pub fn planned(&self, tables: u64, bytes: u64) {
        self.send(Report::Planned { tables, bytes });
    }

    /// Starts a table; what is then added to the meter is reported a few times a second.
    #[must_use]
    pub fn table(&self, table: &QualifiedName, rows_estimate: Option<u64>, bytes: Option<u64>) -> TableMeter {
        let meter = TableMeter::new(self.clone(), table.clone(), bytes);
        meter.begin_with(rows_estimate);
        meter
    }

    /// A table whose turn has not come: [`TableMeter::begin`].
    #[must_use]
    pub fn waiting_table(&self, table: &QualifiedName, bytes: Option<u64>) -> TableMeter {
        TableMeter::new(self.clone(), table.clone(), bytes)
    }

    pub fn table_started(&self, table: &QualifiedName, rows_estimate: Option<u64>, bytes: Option<u64>) {
        self.send(Report::TableStarted { table: table.clone(), rows_estimate, bytes });
    }

    pub fn table_progress(&self, table: &QualifiedName, rows: u64, bytes: u64) {
        self.send(Report::TableProgress { table: table.clone(), rows, bytes });
    }

    pub fn table_done(&self, table: &QualifiedName, rows: u64, bytes: u64, took: Duration) {
        self.send(Report::TableDone { table: table.clone(), rows, bytes, took });
    }

    pub fn index_started(&self, name: impl Into<String>, table: &QualifiedName) {
        self.send(Report::IndexStarted { name: name.into(), table: table.clone() });
    }

    pub fn index_done(&self, name: impl Into<String>, table: &QualifiedName, took: Duration) {
        self.send(Report::IndexDone { name: name.into(), table: table.clone(), took });
    }

    pub fn live(&self, applied: Lsn, lag_bytes: u64, lag_ms: Option<u64>, rate: f64) {
        self.send(Report::Live { applied, lag_bytes, lag_ms, rate });
    }

    pub fn lost(&self, side: &'static str, reason: impl Into<String>) {
        self.send(Report::Lost { side, reason: reason.into() });
    }

    pub fn resumed(&self, side: &'static str, after: Duration) {
        self.send(Report::Resumed { side, after });
    }

    pub fn blocked(&self, error: &Error) {
        self.blocked_for(error, None);
    }

    /// As `blocked`; after so many attempts more it is given up.
    pub fn blocked_for(&self, error: &Error, attempts: Option<u32>) {
        metrics::counter!(crate::metric::ERRORS, "code" => error.code().to_owned()).increment(1);
        self.send(Report::Blocked {
            code: error.code().to_owned(),
            message: error.to_string(),
            detail: error.detail_text().map(str::to_owned),
            hint: error.hint_text().map(str::to_owned),
            attempts,
        });
    }

    pub fn note(&self, text: impl Into<String>) {
        self.send(Report::Note { text: text.into() });
    }

    pub fn warning(&self, text: impl Into<String>, hint: Option<String>) {
        self.send(Report::Warning { text: text.into(), hint });
    }

    pub fn summary(&self, title: impl Into<String>, lines: Vec<(String, String)>) {
        self.send(Report::Summary { title: title.into(), lines });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_makes_room_for_state_changes() {
        let (reporter, mut queue) = Reporter::new();
        let table = QualifiedName::new("s", "t");
        for n in 0..2 * ROOM as u64 {
            reporter.table_progress(&table, n, n);
        }
        reporter.table_done(&table, 1, 2, Duration::from_millis(1500));
        drop(reporter);
        let mut last = None;
        while let Ok(report) = queue.try_recv() {
            last = Some(report);
        }
        let last = serde_json::to_string(&last.unwrap()).unwrap();
        assert_eq!(last, r#"{"event":"table_done","table":"\"s\".\"t\"","rows":1,"bytes":2,"seconds":1.5}"#);
    }
}
