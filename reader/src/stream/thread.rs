//! The thread that streams run on. It is theirs alone, so that one of them may rest ([`super::gather`]) without anybody being woken by
//! what arrives meanwhile: on the process's other threads somebody always waits for all sockets.

use std::sync::OnceLock;

use pg::{Error, Result};
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Runs `future` there; dropped, it ends.
///
/// # Errors
/// Its own; class `Failed` where the thread can't be had.
pub(super) async fn run<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(1).thread_name("stream").enable_all().build()
    });
    let failed = |error: String| Error::failed("THREAD", format!("the stream's thread can't run: {error}"));
    let runtime = runtime.as_ref().map_err(|error| failed(error.to_string()))?;
    let task = AbortOnDropHandle::new(runtime.spawn(future));
    task.await.map_err(|panic| failed(panic.to_string()))?
}
