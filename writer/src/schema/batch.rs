//! Many scripts in few round trips: each is a simple query of its own, so that an error belongs to one of them, and all are on their
//! way before the first answer is read.

use std::task::Poll;

use pg::Error;
use tokio_postgres::GenericClient;

/// Scripts on their way at once. After one that fails, as many refusals stand in the target's log.
const WINDOW: usize = 64;

/// Runs the scripts in order, inside the caller's transaction; the first one that fails, with its place.
pub(super) async fn run(client: &impl GenericClient, scripts: &[String]) -> Result<(), (usize, Error)> {
    for (window, chunk) in scripts.chunks(WINDOW).enumerate() {
        let mut waiting: Vec<_> =
            chunk.iter().map(|script| Some(Box::pin(client.batch_execute(script)))).collect();
        let mut first: Option<(usize, tokio_postgres::Error)> = None;
        // A query is sent when it is first polled: in this order.
        std::future::poll_fn(|cx| {
            let mut pending = false;
            for (at, slot) in waiting.iter_mut().enumerate() {
                let Some(query) = slot else { continue };
                match query.as_mut().poll(cx) {
                    Poll::Pending => pending = true,
                    Poll::Ready(result) => {
                        *slot = None;
                        // Those after the first one fail because the transaction has.
                        if let Err(error) = result
                            && first.as_ref().is_none_or(|(earlier, _)| at < *earlier)
                        {
                            first = Some((at, error));
                        }
                    }
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        if let Some((at, error)) = first {
            return Err((window * WINDOW + at, Error::from(error)));
        }
    }
    Ok(())
}
