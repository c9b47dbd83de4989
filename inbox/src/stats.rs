//! What a worker has done, for logs, metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the worker was made.
#[derive(Debug, Default)]
pub struct Stats {
    handled: AtomicU64,
    duplicates: AtomicU64,
    passed_over: AtomicU64,
    retries: AtomicU64,
    dead_letters: AtomicU64,
}

macro_rules! counts {
    ($($(#[doc = $doc:expr])* $name:ident / $add:ident,)*) => {
        impl Stats {
            $(
                $(#[doc = $doc])*
                #[must_use]
                pub fn $name(&self) -> u64 {
                    self.$name.load(Ordering::Relaxed)
                }

                pub(crate) fn $add(&self) {
                    self.$name.fetch_add(1, Ordering::Relaxed);
                }
            )*
        }
    };
}

counts! {
    /// Events whose effects were committed.
    handled / add_handled,
    /// Events that came again.
    duplicates / add_duplicate,
    /// Events of a type that the handler does not know.
    passed_over / add_passed_over,
    /// Attempts that failed and were followed by another.
    retries / add_retry,
    /// Events that could not be handled.
    dead_letters / add_dead_letter,
}
