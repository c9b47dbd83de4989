//! Reports as one JSON object a line.

use pipeline::Report;
use serde_json::{Value, json};

use super::log;
use super::stderr::Stderr;

pub fn show(stderr: &Stderr, report: &Report) {
    let Ok(Value::Object(mut object)) = serde_json::to_value(report) else { return };
    let level = match report {
        Report::Warning { .. } | Report::Lost { .. } => "WARN",
        Report::Blocked { .. } => "ERROR",
        _ => "INFO",
    };
    object.insert("timestamp".to_owned(), json!(log::now()));
    object.insert("level".to_owned(), json!(level));
    stderr.write(&format!("{}\n", super::redact(&Value::Object(object).to_string())));
}
