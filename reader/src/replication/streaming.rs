//! A connection that streams.

use std::time::{Duration, SystemTime};

use bytes::BufMut;
use pg::wire::{Notice, tag};
use pg::{Error, Lsn, Result, ServerVersion, Wire, quote_ident};
use postgres_protocol::message::frontend;

use super::{ReplicationConnection, ReplicationMessage};

/// How to stream.
#[derive(Clone, Debug)]
pub struct StartOptions {
    pub publications: Vec<String>,
    /// Logical messages (pg_logical_emit_message) too; left out before 14, which has none in pgoutput.
    pub messages: bool,
    /// Values in binary where their type can; left out before 14.
    pub binary: bool,
}

/// Positions for the server: `written >= flushed`, `written >= applied`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StandbyStatus {
    /// Received.
    pub written: Lsn,
    /// Durable at the far end: the server forgets what is before.
    pub flushed: Lsn,
    /// Visible at the far end.
    pub applied: Lsn,
}

/// The stream of one slot. Dropping it ends the connection.
pub struct ReplicationStream {
    wire: Wire,
}

impl ReplicationConnection {
    /// Streams `slot` from `start` (or from what the slot has confirmed, if that is later: the server never objects).
    pub async fn start(
        mut self,
        slot: &str,
        start: Lsn,
        options: &StartOptions,
    ) -> Result<ReplicationStream> {
        let sql = start_command(self.version(), slot, start, options);
        let wire = &mut self.wire;
        frontend::query(&sql, wire.out())?;
        wire.flush().await?;
        let frame = wire.recv().await?;
        match frame.tag {
            tag::COPY_BOTH_RESPONSE => Ok(ReplicationStream { wire: self.wire }),
            _ => Err(frame.unexpected("in answer to START_REPLICATION")),
        }
    }
}

impl ReplicationStream {
    /// The next message; waits for it. Cancel-safe. `None`: the server has ended the stream (it shuts down).
    pub async fn recv(&mut self) -> Result<Option<ReplicationMessage>> {
        let frame = self.wire.recv().await?;
        match frame.tag {
            tag::COPY_DATA => ReplicationMessage::parse(frame.body).map(Some),
            tag::COPY_DONE => Ok(None),
            _ => Err(frame.unexpected("during logical replication")),
        }
    }

    /// A message that is there, without waiting; the inner `None`: the server has ended the stream.
    pub fn try_recv(&mut self) -> Result<Option<Option<ReplicationMessage>>> {
        use futures_util::FutureExt;
        self.recv().now_or_never().transpose()
    }

    /// Tells the server where we are; with `request_reply` it answers with a keepalive.
    pub async fn standby_status_update(&mut self, status: StandbyStatus, request_reply: bool) -> Result<()> {
        debug_assert!(status.written >= status.flushed);
        let out = self.wire.out();
        out.put_u8(b'd');
        out.put_u32(4 + 1 + 8 * 4 + 1);
        out.put_u8(b'r');
        out.put_u64(status.written.as_u64());
        out.put_u64(status.flushed.as_u64());
        out.put_u64(status.applied.as_u64());
        out.put_i64(now());
        out.put_u8(u8::from(request_reply));
        self.wire.flush().await
    }

    /// Asks for a socket buffer of `bytes`, if the server is on this host; what it then is, book-keeping included, 0 where nothing was changed.
    pub fn gather_in(&self, bytes: usize) -> usize {
        self.wire.narrow_if_local(bytes).unwrap_or_default()
    }

    /// Takes up to `most` bytes of messages that have arrived out of the socket, without waiting; they are received later. How many they were.
    pub fn take_in(&mut self, most: usize) -> Result<usize> {
        self.wire.take_in(most)
    }

    /// Bytes that have arrived so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.wire.received()
    }

    /// Warnings that the server sent meanwhile.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.wire.take_notices()
    }

    /// Ends the stream in good order, so that the slot is free when this returns; gives up after `limit`.
    pub async fn finish(mut self, limit: Duration) {
        let goodbye = async {
            frontend::copy_done(self.wire.out());
            self.wire.flush().await?;
            self.wire.until_ready().await?;
            self.wire.shutdown().await;
            Ok::<(), Error>(())
        };
        // Nothing is left to be saved: the server notices the closed connection in any case.
        let _ = tokio::time::timeout(limit, goodbye).await;
    }
}

fn start_command(version: ServerVersion, slot: &str, start: Lsn, options: &StartOptions) -> String {
    // Names are quoted one by one, then the list as a literal; the grammar of replication commands knows no backslash escapes.
    let publications: Vec<String> = options.publications.iter().map(|name| quote_ident(name)).collect();
    let publications = publications.join(",").replace('\'', "''");
    let mut list = vec![
        format!("proto_version '{}'", proto_version(version)),
        format!("publication_names '{publications}'"),
    ];
    if version.major() >= 14 {
        if options.messages {
            list.push("messages 'true'".to_owned());
        }
        if options.binary {
            list.push("binary 'true'".to_owned());
        }
    }
    format!("START_REPLICATION SLOT {} LOGICAL {start} ({})", quote_ident(slot), list.join(", "))
}

/// The newest version of the protocol that the server speaks.
fn proto_version(version: ServerVersion) -> u8 {
    match version.major() {
        ..=13 => 1,
        14 => 2,
        15 => 3,
        _ => 4,
    }
}

/// Microseconds since 2000-01-01.
fn now() -> i64 {
    const EPOCH_2000: u64 = 946_684_800;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since_2000 = since_1970.saturating_sub(Duration::from_secs(EPOCH_2000));
    i64::try_from(since_2000.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_twice() {
        let options =
            StartOptions { publications: vec!["a".into(), "b'\"\\".into()], messages: true, binary: true };
        let start = Lsn::new(0x1_0000_0010);
        assert_eq!(
            start_command(ServerVersion(160_000), "s", start, &options),
            r#"START_REPLICATION SLOT "s" LOGICAL 1/10 (proto_version '4', publication_names '"a","b''""\"', messages 'true', binary 'true')"#
        );
        assert_eq!(
            start_command(
                ServerVersion(100_000),
                "s",
                start,
                &StartOptions { publications: vec!["a".into()], ..options }
            ),
            r#"START_REPLICATION SLOT "s" LOGICAL 1/10 (proto_version '1', publication_names '"a"')"#
        );
    }
}
