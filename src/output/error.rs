//! Errors, as PostgreSQL prints them: primary, detail, hint.

use std::process::ExitCode;

use clap::error::ErrorKind;
use pg::Error;
use serde_json::json;

use super::{log, redact};
use crate::config::LogFormat;

/// Three lines at most, each level on its own.
#[must_use]
pub fn text(error: &Error) -> String {
    let mut out = format!("error: {} [{}]\n", error.primary(), error.code());
    for (label, text) in [("detail", error.detail_text()), ("hint", error.hint_text())] {
        if let Some(text) = text {
            // Further lines stand under the first one.
            let indent = " ".repeat(label.len() + 2);
            out.push_str(&format!("{label}: {}\n", text.trim_end().replace('\n', &format!("\n{indent}"))));
        }
    }
    redact(&out)
}

fn object(error: &Error) -> String {
    let line = json!({
        "timestamp": log::now(),
        "level": "ERROR",
        "event": "error",
        "code": error.code(),
        "message": redact(error.primary()),
        "detail": error.detail_text().map(redact),
        "hint": error.hint_text().map(redact),
    });
    format!("{line}\n")
}

/// The error that ends the process.
pub fn error(error: &Error, format: LogFormat) {
    match format {
        LogFormat::Text => eprint!("{}", text(error)),
        LogFormat::Json => eprint!("{}", object(error)),
    }
}

/// An error before the configuration was read.
pub fn early_error(error: &Error, json: bool) {
    self::error(error, if json { LogFormat::Json } else { LogFormat::Text });
}

/// A warning before the configuration was read.
pub fn early_warning(text: &str, json: bool) {
    let text = redact(text);
    if json {
        let line = json!({"timestamp": log::now(), "level": "WARN", "event": "warning", "text": text});
        eprintln!("{line}");
    } else {
        eprintln!("warning: {text}");
    }
}

/// What clap says of bad usage, as an error of ours: its first line, and the rest of it.
fn of_usage(rendered: &str, kind: ErrorKind) -> Error {
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Error::usage("no command was given").hint("walferry --help lists them");
    }
    let (first, rest) = rendered.split_once('\n').unwrap_or((rendered, ""));
    let error = Error::usage(first.strip_prefix("error: ").unwrap_or(first));
    let rest: Vec<&str> = rest.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if rest.is_empty() { error } else { error.hint(rest.join("\n")) }
}

/// What clap has to say: help and version on stdout with 0, bad usage on stderr with 2.
pub fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if error.use_stderr() {
        let rendered = error.render().to_string();
        if json {
            early_error(&of_usage(&rendered, error.kind()), json);
        } else {
            eprint!("{}", redact(&rendered));
        }
    } else {
        // Help and version hold nothing of the user's.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_stand_below_each_other() {
        let error = Error::refuse("SLOT_MISSING", "replication slot \"a\" does not exist")
            .detail("one\ntwo")
            .hint("walferry clean");
        assert_eq!(
            text(&error),
            "error: replication slot \"a\" does not exist [SLOT_MISSING]\ndetail: one\n        two\nhint: walferry clean\n"
        );
    }
}
