//! SIGINT and SIGTERM: the first asks everything to end in order, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Which signal has come, if one has.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    first: Arc<AtomicU8>,
}

impl Signals {
    /// 130 for SIGINT, 143 for SIGTERM.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        match self.first.load(Ordering::Acquire) {
            0 => None,
            signal => Some(128 + signal),
        }
    }

    /// Cancels `cancel` at the first signal. The task lives as long as the process.
    pub fn watch(cancel: CancellationToken) -> std::io::Result<Signals> {
        let signals = Signals::default();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let first = signals.first.clone();
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    Some(()) = interrupt.recv() => 2,
                    Some(()) = terminate.recv() => 15,
                    else => return,
                };
                if first.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_err() {
                    // Everything durable stands in the two databases: ending here is what a crash would be.
                    std::process::exit(128 + i32::from(number));
                }
                cancel.cancel();
            }
        });
        Ok(signals)
    }
}
