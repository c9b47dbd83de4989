//! Clients that end on a thread of their own: librdkafka takes a client apart only when its last request is answered and its threads have
//! woken up, which is a tenth of a second in which nobody has anything to wait for.

use std::ops::Deref;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Clients that are on their way out.
static ENDING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A client whose end nobody waits for.
pub(crate) struct Aside<C: Send + 'static>(Option<C>);

impl<C: Send + 'static> Aside<C> {
    pub(crate) fn new(client: C) -> Aside<C> {
        Aside(Some(client))
    }
}

impl<C: Send + 'static> Deref for Aside<C> {
    type Target = C;

    fn deref(&self) -> &C {
        let Some(client) = &self.0 else { unreachable!("taken only when it is dropped") };
        client
    }
}

impl<C: Send + 'static> Drop for Aside<C> {
    fn drop(&mut self) {
        let client = self.0.take();
        *ENDING.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let end = move || {
            drop(client);
            *ENDING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            ENDING.1.notify_all();
        };
        // Without a thread to be had it ends here.
        if let Err(error) = std::thread::Builder::new().name("kafka end".to_owned()).spawn(end) {
            tracing::debug!(target: "kafka", "no thread for the end of a client: {error}");
            *ENDING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        }
    }
}

/// Waits until the clients that were given up have ended, for at most `patience`: a process that leaves while they use their libraries'
/// state may crash. Blocks.
pub fn settle(patience: Duration) {
    let ending = ENDING.0.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = ENDING.1.wait_timeout_while(ending, patience, |ending| *ending > 0);
}
