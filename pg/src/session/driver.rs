//! A `tokio_postgres` client on a connection that [`Wire`](crate::Wire) has made.
//!
//! `tokio_postgres` has a start-up of its own; it gets the one that has already taken place: its start-up message goes nowhere, and the
//! answer is made of what the server said to us. So TLS, authentication policy, hosts and settings exist once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::Stream;

/// The stream below `tokio_postgres`.
pub(crate) struct Resumed {
    stream: Stream,
    /// To be read before anything of the stream.
    replay: BytesMut,
    /// Bytes of the start-up message still to be swallowed; `None` until its length is known.
    swallow: Swallow,
}

enum Swallow {
    /// The length's bytes so far.
    Length(u8, u32),
    Body(usize),
    Done,
}

impl Resumed {
    /// `unread`: bytes that were read from the stream and not used.
    pub(crate) fn new<'a>(
        stream: Stream,
        unread: &[u8],
        key: (i32, i32),
        parameters: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Resumed {
        let mut replay = BytesMut::new();
        let mut message = |tag: u8, body: &[u8]| {
            replay.put_u8(tag);
            replay.put_u32(body.len() as u32 + 4);
            replay.put_slice(body);
        };
        message(b'R', &0_i32.to_be_bytes());
        for (name, value) in parameters {
            message(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        message(b'K', &[key.0.to_be_bytes(), key.1.to_be_bytes()].concat());
        message(b'Z', b"I");
        replay.put_slice(unread);
        Resumed { stream, replay, swallow: Swallow::Length(0, 0) }
    }

    /// How many bytes of `bytes` belong to the start-up message.
    fn swallow(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match &mut self.swallow {
                Swallow::Length(count, length) => {
                    used += 1;
                    *length = *length << 8 | u32::from(byte);
                    *count += 1;
                    if *count == 4 {
                        self.swallow = Swallow::Body(length.saturating_sub(4) as usize);
                    }
                }
                Swallow::Body(left) => {
                    let step = (*left).min(bytes.len() - used);
                    used += step;
                    *left -= step;
                    if *left == 0 {
                        self.swallow = Swallow::Done;
                    }
                }
                Swallow::Done => break,
            }
        }
        used
    }
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replay.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let step = self.replay.len().min(buf.remaining());
        buf.put_slice(&self.replay[..step]);
        self.replay.advance(step);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !matches!(self.swallow, Swallow::Done) {
            return Poll::Ready(Ok(self.swallow(buf)));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
