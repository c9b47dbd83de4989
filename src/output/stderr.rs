//! One way to stderr, so that lines never tear the live display.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;

/// The live display while there is one. Clones share it.
#[derive(Clone, Default)]
pub struct Stderr {
    live: Arc<Mutex<Option<MultiProgress>>>,
}

impl Stderr {
    pub fn set_live(&self, live: Option<MultiProgress>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Writes whole lines, above the live display. A stderr that is gone is nobody's problem.
    pub fn write(&self, text: &str) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || {
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(text.as_bytes());
            let _ = stderr.flush();
        };
        match &*live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }
}

/// One event of `tracing`, written when it is complete.
pub struct Line {
    stderr: Stderr,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.stderr.write(&super::redact(&String::from_utf8_lossy(&self.text)));
        }
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { stderr: self.clone(), text: Vec::new() }
    }
}
