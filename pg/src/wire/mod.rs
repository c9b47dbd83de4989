//! A thin raw client over one stream: the frontend/backend protocol without statements, pools or hidden tasks.
//!
//! ```text
//! dial (hosts, addresses, TLS) ─► startup (settings, authentication) ─► Wire
//!                         out() / write_bytes ─► flush ──────────► server
//!                                     recv ◄── frames (slices of the read buffer)
//! ```
//!
//! Used where `tokio_postgres` cannot go: the replication protocol, COPY passed through without looking at rows, and pipelines of
//! thousands of messages. [`crate::Session`] is a `tokio_postgres` client on top of the same connection, so that start-up, TLS and
//! authentication exist once.
//!
//! Kept here: nothing is lost when a future of this module is dropped (bytes read stay in the read buffer, bytes to write in the
//! queue); [`Wire::flush`] reads while it writes, so that a deep pipeline cannot block both ends; a message is refused by its length
//! before it is buffered.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

mod attempt;
mod auth;
mod backend_row;
mod cancel;
mod copy;
mod dial;
mod frame;
mod input;
mod output;
mod simple;
mod startup;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::params::Params;
use crate::session::{Purpose, Resumed};
use crate::{Error, Result, ServerVersion};

use input::Input;
use output::Output;
pub(crate) use stream::Stream;

pub use backend_row::DataRow;
pub use cancel::Canceller;
pub use copy::{CopyChunk, CopyFrames, CopyOut};
pub use frame::{Frame, Notice, tag};

/// How long a server may take to end a session.
const GOODBYE: Duration = Duration::from_secs(2);
/// Notices kept for [`Wire::take_notices`].
const NOTICES: usize = 64;

/// One connection.
pub struct Wire {
    stream: Stream,
    input: Input,
    output: Output,
    parameters: HashMap<String, String>,
    version: ServerVersion,
    canceller: Canceller,
    transaction_status: u8,
    notices: Vec<Notice>,
}

impl Wire {
    /// Connects, authenticates and pins the settings of `purpose`. With `replication` the server's end is a walsender of the database.
    ///
    /// # Errors
    /// `Connection` where another attempt may help, `Refuse` where not (password, TLS, pg_hba).
    pub async fn connect(
        params: &Params,
        purpose: Purpose,
        application_name: &str,
        replication: bool,
    ) -> Result<Wire> {
        attempt::connect(params, &startup::Startup { params, purpose, application_name, replication }).await
    }

    #[must_use]
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// A parameter that the server reports (`server_encoding`, `is_superuser`, `in_hot_standby` …).
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.canceller.backend_pid()
    }

    /// Cancels what the server does for this connection, from any task.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Status of the last ReadyForQuery: `I` idle, `T` in a transaction, `E` in a failed one.
    #[must_use]
    pub fn transaction_status(&self) -> u8 {
        self.transaction_status
    }

    /// The connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Largest message that is accepted, in bytes; default 1 GiB + 64 KiB.
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.input.limit = bytes;
    }

    /// If the server is on this host and reached by TCP: asks for a buffer of `bytes` for what waits in the socket for being read. What the
    /// kernel gives, its own book-keeping included; on Linux twice as much (man 7 socket). None: nothing was changed. On a network a
    /// small one costs throughput, a round trip for each time that it is full.
    #[must_use]
    pub fn narrow_if_local(&self, bytes: usize) -> Option<usize> {
        let socket = self.stream.local_tcp()?;
        let socket = socket2::SockRef::from(socket);
        socket.set_recv_buffer_size(bytes).ok()?;
        socket.recv_buffer_size().ok()
    }

    /// Bytes that have arrived in all, after decryption.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.input.received
    }

    /// Warnings and notices since the last call (at most 64 are kept).
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The next message; waits for it. Cancel-safe. An ErrorResponse is a frame like any other ([`Frame::into_result`]).
    pub async fn recv(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.read_more().await?;
        }
    }

    /// A message that is there, without waiting.
    pub fn try_recv(&mut self) -> Result<Option<Frame>> {
        use futures_util::FutureExt;
        self.recv().now_or_never().transpose()
    }

    /// A message that has been read already.
    fn buffered(&mut self) -> Result<Option<Frame>> {
        while let Some(frame) = self.input.next()? {
            match frame.tag {
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => {
                    self.absorb(&frame)
                }
                tag::READY_FOR_QUERY => {
                    self.transaction_status = frame.body.first().copied().unwrap_or(b'I');
                    return Ok(Some(frame));
                }
                _ => return Ok(Some(frame)),
            }
        }
        Ok(None)
    }

    /// Messages that may come at any time.
    fn absorb(&mut self, frame: &Frame) {
        match frame.tag {
            tag::PARAMETER_STATUS => {
                if let Some((name, value)) = frame.parameter() {
                    self.parameters.insert(name.to_owned(), value.to_owned());
                }
            }
            tag::NOTICE_RESPONSE => {
                let notice = frame.notice();
                tracing::debug!(severity = %notice.severity, "server notice: {}", notice.message);
                if self.notices.len() < NOTICES {
                    self.notices.push(notice);
                }
            }
            _ => {}
        }
    }

    /// Takes up to `most` bytes of what has arrived out of the socket, without waiting and without looking at them: [`Wire::recv`] finds them.
    /// How many they were; 0 as well at the end of the stream.
    pub fn take_in(&mut self, most: usize) -> Result<usize> {
        use futures_util::FutureExt;
        let (stream, input) = (&mut self.stream, &mut self.input);
        Ok(poll_fn(|cx| input.poll_read_at_most(most, stream, cx)).now_or_never().transpose()?.unwrap_or(0))
    }

    /// Waits until the server has sent something more.
    async fn read_more(&mut self) -> Result<()> {
        let (stream, input) = (&mut self.stream, &mut self.input);
        let read = poll_fn(|cx| input.poll_read(stream, cx)).await?;
        if read == 0 { Err(closed()) } else { Ok(()) }
    }

    /// Writes all that was encoded or queued, and reads meanwhile what arrives. Cancel-safe: what was not written is written next time.
    pub async fn flush(&mut self) -> Result<()> {
        let (stream, input, output) = (&mut self.stream, &mut self.input, &mut self.output);
        let mut ended = false;
        poll_fn(|cx| {
            if output.poll_flush(stream, cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            // The server may be unable to read before we have read what it wrote.
            while !ended {
                match input.poll_read(stream, cx)? {
                    Poll::Ready(0) => ended = true,
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Err(closed()))
        })
        .await
    }

    /// The same connection below another client, as if it had just been started.
    pub(crate) fn into_resumed(self) -> Resumed {
        let key = (self.canceller.backend_pid, self.canceller.secret_key);
        let parameters = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Resumed::new(self.stream, &self.input.buffer, key, parameters)
    }

    /// Says goodbye, and waits a moment for the server's process to end, so that its locks and temporary slots are gone. Errors don't
    /// matter any more.
    pub async fn shutdown(mut self) {
        postgres_protocol::message::frontend::terminate(self.out());
        let goodbye = async {
            self.flush().await?;
            loop {
                self.input.buffer.clear();
                self.read_more().await?;
            }
        };
        let ended: Result<Result<Infallible>, _> = tokio::time::timeout(GOODBYE, goodbye).await;
        drop(ended);
    }
}

fn closed() -> Error {
    Error::connection("server closed the connection unexpectedly")
}
