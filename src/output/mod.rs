//! What a person or a script sees: results on stdout, everything else on stderr.
//!
//! ```text
//! Report ──► display ──► terminal (live) │ lines │ json     stderr
//! tracing ─► log ────────────┘ between the live lines        stderr
//! results ─► print, print_json, table                        stdout
//! ```

#[cfg(test)]
mod codes;
mod display;
mod error;
mod json;
pub mod lines;
mod log;
mod quantity;
mod redact;
mod stderr;
mod table;
mod terminal;

use std::io::Write;

pub use display::Display;
pub use error::{early_error, early_warning, error, usage};
pub use quantity::{bytes, count, duration};
pub use redact::redact;
pub use table::table;

/// Writes a result to stdout. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> pg::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| {
        if text.ends_with('\n') {
            stdout.flush()
        } else {
            stdout.write_all(b"\n").and_then(|()| stdout.flush())
        }
    });
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(pg::Error::failed("STDOUT", format!("could not write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON object, on one line.
pub fn print_json(value: &serde_json::Value) -> pg::Result<()> {
    print(&value.to_string())
}
