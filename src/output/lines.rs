//! Reports as lines of text, one for each change of state: what stands in a log file.

use pg::QualifiedName;
use pipeline::Report;

use super::quantity::{bytes, count, duration};

/// `schema.table`, quoted only where it has to be.
#[must_use]
pub fn name(table: &QualifiedName) -> String {
    let part = |text: &str| {
        let plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if plain { text.to_owned() } else { pg::quote_ident(text).replace(char::is_control, "?") }
    };
    format!("{}.{}", part(&table.schema), part(&table.name))
}

/// The line for a report; `None` for one that only says how far something is.
#[must_use]
pub fn line(report: &Report) -> Option<String> {
    Some(match report {
        Report::Step { step } => format!("step {step}"),
        Report::Planned { tables, bytes: size } => format!("{} tables, {}", count(*tables), bytes(*size)),
        Report::TableStarted { table, rows_estimate, bytes: size } => {
            let mut line = format!("{} started", name(table));
            if let Some(rows) = rows_estimate {
                line.push_str(&format!(", about {} rows", count(*rows)));
            }
            if let Some(size) = size {
                line.push_str(&format!(", {}", bytes(*size)));
            }
            line
        }
        Report::TableDone { table, rows, bytes: size, took } => {
            let rate = *rows as f64 / took.as_secs_f64().max(0.001);
            format!(
                "{} done: {} rows, {} in {} ({} rows/s)",
                name(table),
                count(*rows),
                bytes(*size),
                duration(*took),
                count(rate as u64)
            )
        }
        Report::IndexDone { name: index, table, took } => {
            format!("{} on {} built in {}", visible(index), name(table), duration(*took))
        }
        Report::Lost { side, reason } => format!("warning: connection to the {side} lost: {reason}"),
        Report::Resumed { side, after } => {
            format!("connection to the {side} is back after {}", duration(*after))
        }
        Report::Blocked { code, message, detail, hint, attempts } => {
            let mut line = format!("error: {message} [{code}]");
            push(&mut line, "detail", detail.as_deref());
            push(&mut line, "hint", hint.as_deref());
            line.push_str(&match attempts {
                None => "\nthe run goes on by itself when the cause is gone".to_owned(),
                Some(1) => "\ntried once more, then given up".to_owned(),
                Some(times) => format!("\ntried {times} more times, then given up"),
            });
            line
        }
        Report::Note { text } => text.clone(),
        Report::Warning { text, hint } => {
            let mut line = format!("warning: {text}");
            push(&mut line, "hint", hint.as_deref());
            line
        }
        Report::Summary { title, lines } => summary(title, lines),
        Report::TableProgress { .. } | Report::IndexStarted { .. } | Report::Live { .. } => return None,
    })
}

fn push(line: &mut String, label: &str, text: Option<&str>) {
    if let Some(text) = text {
        line.push_str(&format!("\n{label}: {text}"));
    }
}

/// A name without the control characters that an identifier may hold.
#[must_use]
pub fn visible(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Title and aligned values.
#[must_use]
pub fn summary(title: &str, lines: &[(String, String)]) -> String {
    let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut out = title.to_owned();
    for (label, value) in lines {
        let pad = " ".repeat(width - label.chars().count());
        out.push_str(&format!("\n  {label}{pad}  {value}"));
    }
    out
}
