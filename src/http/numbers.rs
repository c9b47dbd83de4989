//! The recorder behind `/metrics`, and the numbers that are read off a run.

use metrics::Unit;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use pg::{Error, Result};
use pipeline::metric::{self, Kind, Metric};
use writer::control::Counters;

use crate::run::monitor::Look;

/// Takes all metrics of this process from now on.
///
/// # Errors
/// There is one already.
pub(super) fn install(command: &'static str, run: &str) -> Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|_| Error::failed("METRICS", "metrics are recorded already"))?;
    describe();
    begin(command, run);
    Ok(handle)
}

fn describe() {
    for Metric { name, kind, unit, help, .. } in metric::ALL {
        // The unit stands in the name already.
        let _: &Unit = unit;
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
        }
    }
}

/// What is shown from the start: a number that is not there yet looks like one that is not measured.
fn begin(command: &'static str, run: &str) {
    metrics::gauge!(metric::BUILD, "version" => env!("CARGO_PKG_VERSION"), "command" => command, "run" => run.to_owned())
        .set(1);
    metrics::gauge!(metric::READY).set(0);
    metrics::gauge!(metric::LAG_BYTES).set(f64::NAN);
    metrics::gauge!(metric::LAG_MS).set(f64::NAN);
    metrics::gauge!(metric::RETAINED_WAL).set(f64::NAN);
    metrics::gauge!(metric::OLDEST_UNDELIVERED).set(f64::NAN);
    metrics::counter!(metric::DEAD_LETTERS).absolute(0);
}

/// Both positions of a stream, as `status` shows them. `undelivered`: age of the oldest event that the far end has not got.
pub(super) fn lag(bytes: u64, ms: Option<u64>, undelivered: Option<u64>) {
    metrics::gauge!(metric::LAG_BYTES).set(bytes as f64);
    metrics::gauge!(metric::LAG_MS).set(ms.map_or(f64::NAN, |ms| ms as f64));
    metrics::gauge!(metric::OLDEST_UNDELIVERED).set(undelivered.map_or(f64::NAN, |ms| ms as f64));
}

pub(super) fn retained(bytes: u64) {
    metrics::gauge!(metric::RETAINED_WAL).set(bytes as f64);
}

/// Outbox events that this process has put aside.
pub fn dead_letters(count: u64) {
    metrics::counter!(metric::DEAD_LETTERS).absolute(count);
}

/// A stream into a target: what `status` shows of it.
pub fn stream(look: &Look, counters: &Counters) {
    lag(look.lag_bytes, look.lag_ms, look.lag_ms);
    retained(look.retained);
    applied(counters);
}

/// What the target's progress has counted since the run began.
fn applied(counters: &Counters) {
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    for (kind, n) in [
        ("insert", counters.inserted),
        ("update", counters.updated),
        ("delete", counters.deleted),
        ("truncate", counters.truncated),
    ] {
        metrics::counter!(metric::APPLIED_ROWS, "kind" => kind).absolute(count(n));
    }
    for (kind, n) in
        [("missing", counters.missing), ("overwritten", counters.overwritten), ("skipped", counters.skipped)]
    {
        metrics::counter!(metric::APPLIED_ODD, "kind" => kind).absolute(count(n));
    }
    metrics::counter!(metric::APPLIED_TRANSACTIONS).absolute(count(counters.transactions));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No panel asks for a metric that is not there, and each metric has a panel.
    #[test]
    fn the_dashboard_shows_every_metric() {
        let dashboard = include_str!("../../compose/grafana/walferry.json");
        let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        let expressions: Vec<&str> = panels
            .flat_map(|panel| panel["targets"].as_array().unwrap())
            .map(|target| target["expr"].as_str().unwrap())
            .collect();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut asked: Vec<&str> = expressions
            .iter()
            .flat_map(|expression| expression.split(|c| !word(c)))
            .filter(|name| name.starts_with("walferry_"))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let mut known: Vec<&str> = metric::ALL.iter().map(|metric| metric.name).collect();
        known.sort_unstable();
        assert_eq!(asked, known);
    }

    /// The page's table has each metric with exactly its labels, and no other.
    #[test]
    fn the_page_lists_every_metric() {
        let page = include_str!("../../docs/monitoring.md");
        let listed: Vec<(&str, Vec<&str>)> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `walferry_"))
            .map(|line| {
                let mut cells = line.split('|');
                let name = cells.next().unwrap_or_default().trim().trim_matches('`');
                let labels = cells.next().unwrap_or_default().split('`').skip(1).step_by(2).collect();
                (name, labels)
            })
            .collect();
        let known: Vec<(&str, Vec<&str>)> = metric::ALL
            .iter()
            .map(|metric| (metric.name.trim_start_matches("walferry_"), metric.labels.to_vec()))
            .collect();
        assert_eq!(listed, known);
        for metric in metric::ALL {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
    }
}
