//! What the application has seen, shared by its clients.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[derive(Default)]
pub struct Counts {
    /// COMMIT was acknowledged.
    pub committed: AtomicU64,
    /// Of these on the new primary.
    pub committed_on_new: AtomicU64,
    /// Rolled back because the application wanted it.
    pub rolled_back: AtomicU64,
    /// Rolled back by the server because of another client (deadlock, serialization), then tried again.
    pub conflicts: AtomicU64,
    /// The connection was lost after COMMIT was sent: done or not, the application cannot know.
    pub unknown: AtomicU64,
    /// Clients that have found the new primary writable.
    pub switched: AtomicU64,
    /// From the first attempt of a transaction to its commit, retries included; the longest so far.
    pub longest_pause_ms: AtomicU64,
    /// From the start of the first refused transaction to the first write that the new primary took; the
    /// longest of all clients.
    pub outage_ms: AtomicU64,
}

impl Counts {
    pub fn longest(longest: &AtomicU64, duration: Duration) {
        longest.fetch_max(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Replaces the file in one step, so that a reader never sees half of it.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut text = String::new();
        for (name, value) in [
            ("committed", &self.committed),
            ("committed_on_new", &self.committed_on_new),
            ("rolled_back", &self.rolled_back),
            ("conflicts", &self.conflicts),
            ("unknown", &self.unknown),
            ("switched", &self.switched),
            ("longest_pause_ms", &self.longest_pause_ms),
            ("outage_ms", &self.outage_ms),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}={}", value.load(Relaxed));
        }
        let new = path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, path)
    }
}
