//! A run for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use writer::control::{CutoverState, TableState};

use super::State;
use crate::output::{bytes, count, duration, lines, table};

/// With more tables than this, only those that are not ready are listed.
const LISTED: usize = 40;

#[must_use]
pub fn render(state: &State) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = head(&mut out, state);
    let _ = tables(&mut out, state);
    let _ = topics(&mut out, state);
    out
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn head(out: &mut String, state: &State) -> std::fmt::Result {
    let run = &state.run;
    let mode = run.mode.command();
    let running = match &state.holder {
        Some(holder) => format!("running on {} since {}", host(state, &holder.client), holder.since),
        None if run.cutover == Some(CutoverState::Open) => "cut over".to_owned(),
        None => "not running".to_owned(),
    };
    writeln!(out, "run {} ({mode}): {}, {running}", run.name, run.step)?;
    if run.cutover.is_some_and(|cutover| cutover != CutoverState::Open) {
        writeln!(out, "  cutover  under way: the source's writers are stopped")?;
    }
    writeln!(out, "  started  {}, {} so far", run.started_at_text, starts(run.epoch))?;
    writeln!(out, "  slot     {} from {}", run.slot, run.slot_lsn.map_or("—".to_owned(), |l| l.to_string()))?;
    if let Some(applied) = state.applied() {
        let live = &run.live;
        write!(out, "  applied  {applied}")?;
        if let (Some(source), Some(lag_bytes)) = (&live.source_lsn, live.lag_bytes) {
            write!(out, ", source at {source}: {}", bytes(lag_bytes))?;
            if let Some(lag_ms) = live.lag_ms {
                write!(out, " and {}", duration(Duration::from_millis(lag_ms)))?;
            }
            write!(out, " behind")?;
        }
        if let Some(retained) = live.retained_wal_bytes {
            write!(out, ", {} of WAL retained", bytes(retained))?;
        }
        if let (Some(age), None) = (age(live.at_ms), &state.holder) {
            write!(out, " ({} ago)", duration(age))?;
        }
        writeln!(out)?;
    }
    let (rows, size) = state.copied();
    writeln!(
        out,
        "  tables   {} of {} ready, {} rows ({}) copied",
        count(state.tables_ready() as u64),
        count(state.tables.len() as u64),
        count(unsigned(rows)),
        bytes(unsigned(size))
    )?;
    changes(out, state)?;
    let steps: Vec<String> = state
        .steps
        .iter()
        .map(|step| format!("{} {}", step.step, duration(Duration::from_secs_f64(step.seconds.max(0.0)))))
        .collect();
    if !steps.is_empty() {
        writeln!(out, "  steps    {}", steps.join(", "))?;
    }
    if let Some(outbox) = &run.live.outbox {
        let (events, letters) = (count(outbox.events), count(outbox.dead_letters));
        writeln!(out, "  outbox   {events} events routed, {letters} dead letters, since the process began")?;
    }
    for waiting in &run.live.waiting {
        writeln!(out, "  waiting  {waiting}")?;
    }
    for warning in &run.live.warnings {
        writeln!(out, "  warning  {warning}")?;
    }
    for gap in run.gap.iter().flat_map(gaps) {
        writeln!(out, "  gap      {gap}")?;
    }
    if let Some(error) = &run.error {
        writeln!(out, "error: {} [{}]", error.message, error.code)?;
        if let Some(hint) = &error.hint {
            writeln!(out, "hint: {hint}")?;
        }
    }
    Ok(())
}

fn starts(epoch: i64) -> String {
    if epoch == 1 { "1 start".to_owned() } else { format!("{epoch} starts") }
}

/// The name that the process gave, or where its connection comes from.
fn host(state: &State, client: &str) -> String {
    let live = &state.run.live;
    match (live.host.as_str(), live.pid) {
        ("", 0) => client.to_owned(),
        ("", pid) => format!("{client} (pid {pid})"),
        (host, pid) => format!("{host} (pid {pid})"),
    }
}

fn age(at_ms: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    (at_ms > 0).then(|| now.saturating_sub(Duration::from_millis(at_ms)))
}

fn changes(out: &mut String, state: &State) -> std::fmt::Result {
    let c = state.counters();
    write!(
        out,
        "  changes  {} inserted, {} updated, {} deleted, {} truncated in {} transactions",
        count(unsigned(c.inserted)),
        count(unsigned(c.updated)),
        count(unsigned(c.deleted)),
        count(unsigned(c.truncated)),
        count(unsigned(c.transactions))
    )?;
    for (n, what) in
        [(c.missing, "found no row"), (c.overwritten, "met a row of their key"), (c.skipped, "skipped")]
    {
        if n > 0 {
            write!(out, "; {} {what}", count(unsigned(n)))?;
        }
    }
    writeln!(out)
}

/// What the stream did not bring, a line each.
fn gaps(gap: &Value) -> Vec<String> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or("?").to_owned();
    let line = |one: &Value| {
        let what = one["reason"].as_str().unwrap_or("changes were not published");
        format!("{what}: {} to {}", text(one, "from"), text(one, "to"))
    };
    gap.as_array().map(|all| all.iter().map(line).collect()).unwrap_or_default()
}

fn topics(out: &mut String, state: &State) -> std::fmt::Result {
    let live = &state.run.live.topics;
    let all = live.len() <= LISTED;
    let listed: Vec<_> = live.iter().filter(|topic| all || topic.lag_events > 0).take(LISTED).collect();
    if listed.is_empty() {
        return Ok(());
    }
    let span = |ms: u64| duration(Duration::from_millis(ms));
    let rows = listed
        .into_iter()
        .map(|topic| {
            vec![
                crate::output::lines::visible(&topic.topic),
                count(topic.partitions),
                count(topic.lag_events),
                span(topic.lag_ms),
                topic.retention_left_ms.map_or_else(|| "—".to_owned(), span),
            ]
        })
        .collect();
    write!(
        out,
        "\n{}",
        self::table(&["topic", "partitions", "events behind", "behind", "until removed"], rows)
    )
}

fn tables(out: &mut String, state: &State) -> std::fmt::Result {
    let all = state.tables.len() <= LISTED;
    let listed: Vec<_> =
        state.tables.iter().filter(|table| all || table.state != TableState::Ready).take(LISTED).collect();
    if listed.is_empty() {
        return Ok(());
    }
    let rows = listed
        .into_iter()
        .map(|table| {
            let size = bytes(unsigned(table.bytes));
            let copied = matches!(table.state, TableState::Copied | TableState::Ready);
            vec![
                lines::name(&table.name),
                table.state.to_string(),
                if copied { count(unsigned(table.rows)) } else { String::new() },
                size,
                table.copied_at.map(|lsn| lsn.to_string()).unwrap_or_default(),
            ]
        })
        .collect();
    write!(out, "\n{}", self::table(&["table", "state", "rows", "size", "copied at"], rows))
}
