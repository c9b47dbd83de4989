//! What to stream.

use std::time::Duration;

use pg::{Lsn, Params};
use pipeline::Reporter;
use tokio::sync::watch;

/// Configuration of one stream.
#[derive(Clone, Debug)]
pub struct Options {
    pub params: Params,
    /// The walsender's name; the connection string's own wins.
    pub application_name: String,
    pub slot: String,
    pub publications: Vec<String>,
    /// End LSN of the last transaction that the target has (or the slot's consistent point): the stream begins after it.
    pub start: Lsn,
    /// The timeline that `start` was compared with; on another one the stream does not begin. None: on any.
    pub timeline: Option<u32>,
    /// Values in binary where their type can.
    pub binary: bool,
    /// Logical messages with one of these prefixes become events; empty: none is asked for.
    pub message_prefixes: Vec<String>,
    /// Logical messages of every prefix do.
    pub all_messages: bool,
    /// A chunk is handed on when it holds this much, or when the server has nothing more to say.
    pub chunk_bytes: usize,
    /// What a server on this host sends without a pause is gathered in its socket's buffer.
    pub gather: bool,
    /// How long an ordered end waits for what was sent to become durable.
    pub drain: Duration,
    pub reporter: Reporter,
    /// Where the stream is, for whoever shows the lag.
    pub position: watch::Sender<Position>,
}

impl Options {
    /// With the defaults for everything that is about size and time.
    #[must_use]
    pub fn new(
        params: Params,
        application_name: impl Into<String>,
        slot: impl Into<String>,
        publications: Vec<String>,
        start: Lsn,
    ) -> Options {
        Options {
            params,
            application_name: application_name.into(),
            slot: slot.into(),
            publications,
            start,
            timeline: None,
            binary: false,
            message_prefixes: Vec::new(),
            all_messages: false,
            chunk_bytes: 256 * 1024,
            gather: true,
            drain: Duration::from_secs(3),
            reporter: Reporter::silent(),
            position: watch::Sender::new(Position::default()),
        }
    }
}

/// Where the stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// The server's WAL up to here has been decoded and what belongs to us was received.
    pub received: Lsn,
    /// Commit time of the last transaction received, as the source's clock said it.
    pub committed_at: pipeline::PgTimestamp,
}
