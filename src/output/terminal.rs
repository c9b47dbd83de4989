//! The live display: what is on its way now, below what is done.
//!
//! ```text
//! ✓ slot       0.3 s
//! ✓ schema     0.9 s
//!   app.events done: 1,000,000 rows, 94 MB in 3.1 s (322,580 rows/s)
//! ⠹ copy       4/13 tables  212 MB of 1.4 GB  48 MB/s  25 s left
//!   app.devices     ━━━━━━━╸────────  420,000 rows  12 s left  39 MB  180,000 rows/s
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pg::QualifiedName;
use pipeline::Report;
use tokio::sync::mpsc;

use super::display::Said;
use super::lines;
use super::quantity::{bytes, count, duration};
use super::stderr::Stderr;

/// Tables that are drawn at the same time; more are counted only.
const BARS: usize = 12;
/// With more tables than this, those that are done get no line of their own.
const NAMED: u64 = 60;
/// So that rows and time left are seen on 80 columns; what doesn't fit is cut.
const BAR_WIDTH: usize = 16;

struct TableBar {
    bar: Option<ProgressBar>,
    started: Instant,
    size: Option<u64>,
    bytes: u64,
}

struct Current {
    step: String,
    started: Instant,
    planned: Option<(u64, u64)>,
    tables_done: u64,
    bytes_done: u64,
    /// Of the planned bytes, those of tables that are done: a COPY is not as large as its table on disk.
    planned_done: u64,
    indexes_done: u64,
    indexes: BTreeMap<String, Instant>,
    live: Option<String>,
}

/// Draws until the queue ends.
pub struct Terminal {
    stderr: Stderr,
    bars: MultiProgress,
    head: ProgressBar,
    current: Option<Current>,
    tables: BTreeMap<QualifiedName, TableBar>,
    said: Said,
}

fn plain_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Terminal {
    #[must_use]
    pub fn new(stderr: Stderr) -> Terminal {
        let bars = MultiProgress::new();
        let head = bars.add(ProgressBar::new_spinner());
        head.set_style(plain_style("{spinner:.cyan} {wide_msg}"));
        stderr.set_live(Some(bars.clone()));
        Terminal { stderr, bars, head, current: None, tables: BTreeMap::new(), said: Said::default() }
    }

    pub async fn run(mut self, mut queue: mpsc::Receiver<Report>) {
        let mut tick = tokio::time::interval(Duration::from_millis(120));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                report = queue.recv() => match report {
                    Some(report) => self.show(report),
                    None => break,
                },
                _ = tick.tick() => self.draw(),
            }
        }
        self.end_step();
        self.stderr.set_live(None);
        self.head.finish_and_clear();
        let _ = self.bars.clear();
    }

    fn above(&self, line: &str) {
        let line = super::redact(line);
        self.bars.suspend(|| eprintln!("{line}"));
    }

    fn show(&mut self, report: Report) {
        if self.said.again(&report) {
            return;
        }
        match report {
            Report::Step { step } => {
                self.end_step();
                self.current = Some(Current {
                    step,
                    started: Instant::now(),
                    planned: None,
                    tables_done: 0,
                    bytes_done: 0,
                    planned_done: 0,
                    indexes_done: 0,
                    indexes: BTreeMap::new(),
                    live: None,
                });
                self.draw();
            }
            Report::Summary { .. } => {
                self.end_step();
                if let Some(line) = lines::line(&report) {
                    self.above(&line);
                }
            }
            Report::Planned { tables, bytes } => {
                if let Some(current) = &mut self.current {
                    current.planned = Some((tables, bytes));
                }
            }
            Report::TableStarted { table, bytes, .. } => self.start_table(table, bytes),
            Report::TableProgress { table, rows, bytes } => self.progress(&table, rows, bytes),
            Report::TableDone { ref table, bytes, .. } => {
                let planned = self.forget_table(table);
                let mut named = true;
                if let Some(current) = &mut self.current {
                    current.tables_done += 1;
                    current.bytes_done += bytes;
                    current.planned_done += planned.unwrap_or(bytes);
                    named = current.planned.is_none_or(|(tables, _)| tables <= NAMED);
                }
                if let Some(line) = lines::line(&report).filter(|_| named) {
                    self.above(&format!("    {line}"));
                }
            }
            Report::IndexStarted { name, .. } => {
                if let Some(current) = &mut self.current {
                    current.indexes.insert(name, Instant::now());
                }
            }
            Report::IndexDone { name, .. } => {
                if let Some(current) = &mut self.current {
                    current.indexes.remove(&name);
                    current.indexes_done += 1;
                }
            }
            Report::Live { applied, lag_bytes, lag_ms, rate } => {
                if let Some(current) = &mut self.current {
                    current.live = Some(format!(
                        "applied {applied}  {} behind{}  {} changes/s",
                        bytes(lag_bytes),
                        lag_ms.map_or_else(String::new, |ms| format!("  {ms} ms")),
                        count(rate.max(0.0).round() as u64)
                    ));
                }
            }
            report => {
                if let Some(line) = lines::line(&report) {
                    self.above(&line);
                }
            }
        }
    }

    fn start_table(&mut self, table: QualifiedName, size: Option<u64>) {
        let drawn = self.tables.values().filter(|table| table.bar.is_some()).count();
        let bar = (drawn < BARS).then(|| {
            let bar = self.bars.add(ProgressBar::new(size.unwrap_or(0).max(1)));
            let style =
                plain_style(&format!("    {{prefix:26!}} {{bar:{BAR_WIDTH}.cyan/dim}}  {{wide_msg}}"));
            bar.set_style(style.progress_chars("━╸─"));
            bar.set_prefix(lines::name(&table));
            bar
        });
        self.tables.insert(table, TableBar { bar, started: Instant::now(), size, bytes: 0 });
    }

    fn progress(&mut self, table: &QualifiedName, rows: u64, done: u64) {
        let Some(table) = self.tables.get_mut(table) else { return };
        table.bytes = done;
        let Some(bar) = &table.bar else { return };
        let seconds = table.started.elapsed().as_secs_f64().max(0.001);
        let mut text = format!("{} rows", count(rows));
        if let Some(size) = table.size.filter(|size| *size > done && done > 0) {
            // A COPY is not as large as the table on disk: an estimate, never 100 % before the end.
            bar.set_position(done.min(size * 99 / 100));
            let left = seconds * (size - done) as f64 / done as f64;
            text.push_str(&format!("  {} left", duration(Duration::from_secs_f64(left.min(1e7)))));
        } else if let Some(size) = table.size {
            bar.set_position(if done > 0 { size * 99 / 100 } else { 0 });
        }
        text.push_str(&format!("  {}  {} rows/s", bytes(done), count((rows as f64 / seconds) as u64)));
        bar.set_message(text);
    }

    /// Its planned size.
    fn forget_table(&mut self, table: &QualifiedName) -> Option<u64> {
        let table = self.tables.remove(table)?;
        if let Some(bar) = table.bar {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        table.size
    }

    /// The line of the step that goes on.
    fn draw(&mut self) {
        let Some(current) = &self.current else { return };
        let mut text = format!("{:<10} ", current.step);
        if let Some(live) = &current.live {
            text.push_str(live);
        } else {
            self.draw_tables(current, &mut text);
            if current.indexes_done > 0 || !current.indexes.is_empty() {
                if !text.ends_with(' ') {
                    text.push_str("  ");
                }
                text.push_str(&format!("{} built", current.indexes_done));
                if let Some((name, since)) = current.indexes.iter().min_by_key(|(_, since)| **since) {
                    let more = current.indexes.len() - 1;
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    text.push_str(&format!(
                        ", {}{more} for {}",
                        lines::visible(name),
                        duration(since.elapsed())
                    ));
                }
            }
        }
        if current.live.is_none() {
            text.push_str(&format!("  {}", duration(current.started.elapsed())));
        }
        self.head.set_message(text);
        self.head.tick();
    }

    fn draw_tables(&self, current: &Current, text: &mut String) {
        let Some((tables, size)) = current.planned else { return };
        let done = current.bytes_done + self.tables.values().map(|table| table.bytes).sum::<u64>();
        let under_way = self.tables.values().map(|table| table.bytes.min(table.size.unwrap_or(0)));
        let planned_done = current.planned_done + under_way.sum::<u64>();
        let seconds = current.started.elapsed().as_secs_f64().max(0.001);
        text.push_str(&format!("{}/{} tables", count(current.tables_done), count(tables)));
        if done > 0 {
            text.push_str(&format!(
                "  {} of {}  {}/s",
                bytes(done),
                bytes(size.max(done)),
                bytes((done as f64 / seconds) as u64)
            ));
        }
        if planned_done > 0 && size > planned_done && current.tables_done < tables {
            let left = seconds * (size - planned_done) as f64 / planned_done as f64;
            text.push_str(&format!("  {} left", duration(Duration::from_secs_f64(left.min(1e7)))));
        }
    }

    /// Leaves one line of the step that has ended.
    fn end_step(&mut self) {
        let names: Vec<QualifiedName> = self.tables.keys().cloned().collect();
        for name in names {
            let _ = self.forget_table(&name);
        }
        if let Some(current) = self.current.take() {
            self.above(&format!("✓ {:<10} {}", current.step, duration(current.started.elapsed())));
        }
    }
}
