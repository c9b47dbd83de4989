//! The stream: from the slot into a carrier, with the acknowledgement coming back.
//!
//! ```text
//! walsender ── XLogData ─► ReplicationStream ─► Decoder ─► Chunk ─► ChangeSink ─► … writer
//!           ◄─ status ──── Feedback ◄──────────────────────── Durable ◄────────────┘
//! ```
//!
//! # Invariants
//!
//! 1. Only what the far end has made durable is confirmed as flushed. Received, flushed and applied are told apart.
//! 2. Nothing that the carrier does can hold feedback up: while it is full we go on confirming, so that the walsender does not give up.
//! 3. Transactions that ended at or before `start` are dropped: a server sends acknowledged ones again after a crash of its own.
//! 4. When nothing is pending, a keepalive's position goes through the carrier as [`pipeline::Event::Idle`] and comes back as durable, so an
//!    idle slot moves, a server that shuts down gets its confirmation, and progress is never behind what was confirmed.
//! 5. Memory is bounded: one chunk here, the rest is the carrier's and the kernel's.
//!
//! A keepalive's position is where decoding has come to: every transaction that committed before it has been sent. So it may be
//! acknowledged once those are applied.

mod feedback;
mod gather;
mod options;
mod pump;
mod thread;

use std::time::Duration;

use pg::{Class, Error, Params, Result};
use pipeline::ChangeSink;
use tokio_util::sync::CancellationToken;

use crate::replication::{ReplicationConnection, StartOptions};

pub use options::{Options, Position};

use feedback::Feedback;
use pump::Pump;

/// A replication connection that nothing was asked of yet.
pub struct Opened {
    connection: ReplicationConnection,
    server_timeout: Duration,
}

/// Connects: can be done before it is known where the stream starts.
pub async fn open(params: &Params, application_name: &str) -> Result<Opened> {
    let (params, name) = (params.clone(), application_name.to_owned());
    thread::run(async move {
        let mut connection = ReplicationConnection::connect(&params, &name).await?;
        let server_timeout = Feedback::server_timeout(&mut connection).await?;
        Ok(Opened { connection, server_timeout })
    })
    .await
}

/// Streams until `cancel`, then lets the carrier drain for [`Options::drain`], confirms what became durable, and frees the slot.
///
/// # Errors
/// Class `Connection`: the server is gone or shuts down, start again. Everything else as the server said it.
pub async fn run<S: ChangeSink + 'static>(
    options: Options,
    sink: S,
    cancel: CancellationToken,
) -> Result<()> {
    let (params, name) = (options.params.clone(), options.application_name.clone());
    run_on(async move { open(&params, &name).await }, options, sink, cancel).await
}

/// The same on a connection that is, or is being, opened.
pub async fn run_on<S: ChangeSink + 'static>(
    opened: impl Future<Output = Result<Opened>>,
    options: Options,
    sink: S,
    cancel: CancellationToken,
) -> Result<()> {
    let opened = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        opened = opened => opened?,
    };
    thread::run(stream(opened, options, sink, cancel)).await
}

async fn stream<S: ChangeSink>(
    opened: Opened,
    options: Options,
    sink: S,
    cancel: CancellationToken,
) -> Result<()> {
    let Opened { mut connection, server_timeout } = opened;
    let start = async {
        if let Some(timeline) = options.timeline {
            let now = connection.identify_system().await?.timeline;
            if now != timeline {
                return Err(Error::connection(format!("the source went from timeline {timeline} to {now}")));
            }
        }
        let start = StartOptions {
            publications: options.publications.clone(),
            messages: options.all_messages || !options.message_prefixes.is_empty(),
            binary: options.binary,
        };
        connection.start(&options.slot, options.start, &start).await
    };
    let stream = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        started = Box::pin(start) => started?,
    };
    let feedback = Feedback::new(sink.durable(), options.start, server_timeout);
    Box::pin(Pump::new(options, stream, feedback, sink).run(cancel)).await.map_err(for_good)
}

/// A transaction that names a file which the source no longer knows the table of (`ReorderBufferProcessTXN`). Decoding begins at the same place
/// each time, and comes to the same: seen once, as the answer to every START_REPLICATION.
fn for_good(error: Error) -> Error {
    if !(error.is(INTERNAL) && error.primary().contains("could not map filen")) {
        return error;
    }
    error.with_class(Class::Refuse).hint(
        "the source can't decode this transaction, and a slot can't pass it over: start over, with walferry clean and the same command",
    )
}

const INTERNAL: &str = "XX000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_can_not_be_decoded_ends_the_run() {
        let told = |code: &str, text: &str| for_good(Error::server(code, text)).class();
        let unknown = "could not map filenumber \"base/5/16400\" to relation OID";
        assert_eq!(told("XX000", unknown), Class::Refuse);
        assert_eq!(told("XX000", "something else"), Class::Stop);
        assert_ne!(told("58P01", unknown), Class::Refuse);
    }
}
