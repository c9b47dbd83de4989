//! What is to be written: encoded messages, and large payloads that are not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::{Stream, Wire};
use crate::Result;

/// A buffer that grew past this is given back once it is empty.
const KEEP: usize = 4 * 1024 * 1024;
/// Pieces handed to one system call.
const PIECES: usize = 16;

#[derive(Default)]
pub(super) struct Output {
    /// Goes first, in order.
    queue: VecDeque<Bytes>,
    /// Goes after the queue.
    encoded: BytesMut,
}

impl Wire {
    /// Encode messages here (`postgres_protocol::message::frontend`), then [`Wire::flush`].
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.output.encoded
    }

    /// Queues whole messages behind what was encoded so far, without copying them; [`Wire::flush`] writes them.
    pub fn queue_bytes(&mut self, bytes: Bytes) {
        self.output.push(bytes);
    }

    /// Queues whole messages and writes everything. Cancel-safe in that what was not written is written by the next flush.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> Result<()> {
        self.output.push(bytes);
        self.flush().await
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn pending_output(&self) -> usize {
        self.output.encoded.len() + self.output.queue.iter().map(Bytes::len).sum::<usize>()
    }
}

impl Output {
    fn push(&mut self, bytes: Bytes) {
        if !self.encoded.is_empty() {
            let encoded = self.encoded.split().freeze();
            self.queue.push_back(encoded);
        }
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// Writes until nothing is left.
    pub(super) fn poll_flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() || !self.encoded.is_empty() {
            let written = if self.queue.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.encoded))?
            } else {
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let all = self.queue.iter().map(|bytes| &bytes[..]).chain([&self.encoded[..]]);
                let mut count = 0;
                for (piece, bytes) in pieces.iter_mut().zip(all) {
                    *piece = IoSlice::new(bytes);
                    count += 1;
                }
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &pieces[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.encoded.capacity() > KEEP {
            self.encoded = BytesMut::new();
        }
        Pin::new(stream).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.queue.front_mut() {
            let step = written.min(front.len());
            front.advance(step);
            written -= step;
            if !front.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        if written == self.encoded.len() {
            self.encoded.clear();
        } else {
            self.encoded.advance(written);
        }
    }
}
