//! The read buffer. Frames are split off its front without copying; a block of memory is freed when its last slice is.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::AsyncReadExt;

use super::Stream;
use super::frame::Frame;
use crate::{Error, Result};

/// Bytes asked for when the buffer runs short: few system calls, and little kept alive by one long-lived slice.
const BLOCK: usize = 128 * 1024;
/// A read into less room than this is not worth a system call.
const LOW: usize = 32 * 1024;
/// tag and length.
pub(super) const HEADER: usize = 5;
/// PostgreSQL's own limit of a message, and room for its header.
const MESSAGE_LIMIT: usize = (1 << 30) + 64 * 1024;

pub(super) struct Input {
    pub(super) buffer: BytesMut,
    pub(super) limit: usize,
    /// Bytes that have arrived in all.
    pub(super) received: u64,
    /// Bytes that the frame at the front still lacks.
    missing: usize,
    /// Bytes still to come of a CopyData message whose beginning was handed out ([`Wire::recv_copy_part`]).
    ///
    /// [`Wire::recv_copy_part`]: super::Wire::recv_copy_part
    pub(super) continues: usize,
}

impl Input {
    pub(super) fn new() -> Input {
        Input {
            buffer: BytesMut::with_capacity(BLOCK),
            limit: MESSAGE_LIMIT,
            received: 0,
            missing: 0,
            continues: 0,
        }
    }

    /// Length of the frame at `at` with its header; `None` while even that is not known.
    pub(super) fn frame_length(&self, at: usize) -> Result<Option<usize>> {
        let Some(header) = self.buffer.get(at..at + HEADER) else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length < 4 {
            return Err(Error::connection("invalid message length from the server"));
        }
        if length > self.limit {
            return Err(Error::stop(
                "MESSAGE_TOO_LARGE",
                format!(
                    "message of {length} bytes from the server exceeds the limit of {} bytes",
                    self.limit
                ),
            ));
        }
        Ok(Some(length + 1))
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<Frame>> {
        let Some(length) = self.frame_length(0)? else { return Ok(None) };
        self.missing = length.saturating_sub(self.buffer.len());
        if self.missing > 0 {
            return Ok(None);
        }
        let mut body = self.buffer.split_to(length).freeze();
        let tag = body[0];
        body.advance(HEADER);
        Ok(Some(Frame { tag, body }))
    }

    /// Reads once; the number of bytes, 0 at the end of the stream.
    pub(super) fn poll_read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_read_at_most(usize::MAX, stream, cx)
    }

    /// As [`Input::poll_read`], but no more than so many bytes.
    pub(super) fn poll_read_at_most(
        &mut self,
        most: usize,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let length = self.buffer.len();
        if self.buffer.capacity() - length < LOW {
            // Doubling as data really arrives: a lying length costs nothing, a long message is copied a few times at most.
            self.buffer.reserve(self.missing.min(length).max(BLOCK));
        }
        // Dropped after one poll: `read_buf` keeps nothing back.
        let read = pin!(stream.read_buf(&mut (&mut self.buffer).limit(most))).poll(cx);
        if let Poll::Ready(Ok(count)) = read {
            self.received += count as u64;
        }
        read
    }
}
