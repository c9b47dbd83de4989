//! COPY without looking at rows: runs of CopyData frames, as received.
//!
//! CopyData has the same form in both directions, so what one server sent can be written to another as it is:
//! [`Wire::recv_copy_chunk`] on the source, [`Wire::write_bytes`] on the target.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Buf, Bytes};
use postgres_protocol::message::frontend;

use super::input::HEADER;
use super::{Wire, tag};
use crate::Result;

/// Enough for one write; more is not gathered.
const CHUNK: usize = 256 * 1024;

/// Whole CopyData messages with their headers.
#[derive(Clone, Debug)]
pub struct CopyChunk {
    pub bytes: Bytes,
    /// How many. In text format one is a row; in binary the first carries the header with its row, and the trailer is one of its own.
    pub frames: u64,
}

impl CopyChunk {
    /// Bytes of the payloads.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.bytes.len() as u64 - self.frames * HEADER as u64
    }

    /// The payloads, one a message.
    #[must_use]
    pub fn payloads(&self) -> CopyFrames {
        CopyFrames(self.bytes.clone())
    }
}

/// Iterator over the payloads of a [`CopyChunk`].
pub struct CopyFrames(Bytes);

impl Iterator for CopyFrames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize + 1;
        let mut frame = self.0.split_to(length.min(self.0.len()));
        frame.advance(HEADER.min(frame.len()));
        Some(frame)
    }
}

/// What comes next of a COPY … TO STDOUT.
#[derive(Debug)]
pub enum CopyOut {
    Data(CopyChunk),
    /// CopyDone; CommandComplete and ReadyForQuery follow ([`Wire::copy_out_end`]).
    Done,
}

impl Wire {
    /// Starts `COPY … TO STDOUT`.
    pub async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.copy_start(sql, tag::COPY_OUT_RESPONSE).await
    }

    /// Starts `COPY … FROM STDIN`; then [`Wire::write_bytes`] CopyData messages and [`Wire::copy_in_end`].
    pub async fn copy_in(&mut self, sql: &str) -> Result<()> {
        self.copy_start(sql, tag::COPY_IN_RESPONSE).await
    }

    async fn copy_start(&mut self, sql: &str, wanted: u8) -> Result<()> {
        frontend::query(sql, self.out())?;
        self.flush().await?;
        let frame = self.recv().await?;
        if frame.tag == wanted {
            return Ok(());
        }
        let error = frame.unexpected("in answer to COPY");
        if frame.tag == tag::ERROR_RESPONSE {
            self.until_ready().await?;
        }
        Err(error)
    }

    /// All whole CopyData messages that are there, at least one; waits for it. Cancel-safe. A server's error is returned as an error
    /// after the connection is ready for the next query.
    pub async fn recv_copy_chunk(&mut self) -> Result<CopyOut> {
        self.recv_copy(false).await
    }

    /// As [`Wire::recv_copy_chunk`], but a long message is handed out as it arrives: its beginning counts as a frame, the rest as none.
    /// So memory doesn't follow the size of a row. Whoever has written a beginning has to write the rest or hang up.
    pub async fn recv_copy_part(&mut self) -> Result<CopyOut> {
        self.recv_copy(true).await
    }

    async fn recv_copy(&mut self, parts: bool) -> Result<CopyOut> {
        loop {
            self.fill_available()?;
            if parts && let Some(part) = self.long_message()? {
                return Ok(CopyOut::Data(part));
            }
            if self.input.continues > 0 {
                self.read_more().await?;
                continue;
            }
            let (mut end, mut frames) = (0, 0);
            while let Some(length) = self.input.frame_length(end)? {
                if self.input.buffer[end] != tag::COPY_DATA || end + length > self.input.buffer.len() {
                    break;
                }
                end += length;
                frames += 1;
                if end >= CHUNK {
                    break;
                }
            }
            if frames > 0 {
                return Ok(CopyOut::Data(CopyChunk {
                    bytes: self.input.buffer.split_to(end).freeze(),
                    frames,
                }));
            }
            // Not CopyData, or a part of one.
            let Some(frame) = self.input.next()? else {
                self.read_more().await?;
                continue;
            };
            match frame.tag {
                tag::COPY_DONE => return Ok(CopyOut::Done),
                tag::ERROR_RESPONSE => {
                    let error = frame.error();
                    self.until_ready().await?;
                    return Err(error);
                }
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => {
                    self.absorb(&frame)
                }
                _ => return Err(frame.unexpected("during COPY TO STDOUT")),
            }
        }
    }

    /// What is there of a CopyData message that is longer than a chunk.
    fn long_message(&mut self) -> Result<Option<CopyChunk>> {
        let here = self.input.buffer.len();
        if self.input.continues > 0 {
            let part = self.input.continues.min(here);
            self.input.continues -= part;
            let bytes = self.input.buffer.split_to(part).freeze();
            return Ok((part > 0).then_some(CopyChunk { bytes, frames: 0 }));
        }
        match self.input.frame_length(0)? {
            Some(length) if length > CHUNK.max(here) && self.input.buffer[0] == tag::COPY_DATA => {
                self.input.continues = length - here;
                Ok(Some(CopyChunk { bytes: self.input.buffer.split_to(here).freeze(), frames: 1 }))
            }
            _ => Ok(None),
        }
    }

    /// After [`CopyOut::Done`]: the number of rows.
    pub async fn copy_out_end(&mut self) -> Result<u64> {
        self.command_end().await
    }

    /// Ends the data of `COPY … FROM STDIN`; the number of rows taken.
    pub async fn copy_in_end(&mut self) -> Result<u64> {
        frontend::copy_done(self.out());
        self.flush().await?;
        self.command_end().await
    }

    /// Gives up `COPY … FROM STDIN`: nothing of it stays. The connection is ready afterwards.
    pub async fn copy_in_fail(&mut self, reason: &str) -> Result<()> {
        frontend::copy_fail(reason, self.out())?;
        self.flush().await?;
        self.until_ready().await
    }

    /// An error that the server sent while we were writing to it (a COPY that failed early); does not wait.
    pub fn copy_in_error(&mut self) -> Result<()> {
        match self.try_recv()? {
            Some(frame) if frame.tag == tag::ERROR_RESPONSE => Err(frame.error()),
            Some(frame) => Err(frame.unexpected("during COPY FROM STDIN")),
            None => Ok(()),
        }
    }

    /// Reads CommandComplete and ReadyForQuery; the rows affected.
    async fn command_end(&mut self) -> Result<u64> {
        let mut outcome = Ok(0);
        loop {
            let frame = match self.recv().await {
                Ok(frame) => frame,
                Err(lost) => return outcome.and(Err(lost)),
            };
            match frame.tag {
                tag::COMMAND_COMPLETE if outcome.is_ok() => outcome = Ok(frame.affected_rows()),
                tag::ERROR_RESPONSE if outcome.is_ok() => outcome = Err(frame.error()),
                tag::READY_FOR_QUERY => return outcome,
                _ => {}
            }
        }
    }

    /// Skips to ReadyForQuery.
    pub async fn until_ready(&mut self) -> Result<()> {
        while self.recv().await?.tag != tag::READY_FOR_QUERY {}
        Ok(())
    }

    /// Reads what the kernel holds, up to about one chunk, without waiting.
    fn fill_available(&mut self) -> Result<()> {
        use futures_util::FutureExt;
        let (stream, input) = (&mut self.stream, &mut self.input);
        while input.buffer.len() < CHUNK {
            match poll_fn(|cx| Poll::Ready(input.poll_read(stream, cx))).now_or_never() {
                // The end of the stream is reported when more is waited for.
                Some(Poll::Ready(read)) => {
                    if read? == 0 {
                        break;
                    }
                }
                Some(Poll::Pending) | None => break,
            }
        }
        Ok(())
    }
}
