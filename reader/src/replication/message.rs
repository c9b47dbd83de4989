//! What a walsender sends inside CopyData.

use bytes::{Buf, Bytes};
use pg::{Error, Lsn, Result};
use pipeline::PgTimestamp;

/// A message of the stream.
#[derive(Clone, Debug)]
pub enum ReplicationMessage {
    XLogData(XLogDataBody),
    /// Everything up to `end` was decoded and what belongs to us was sent.
    Keepalive {
        end: Lsn,
        /// The server gives up unless it hears from us soon.
        reply: bool,
    },
}

/// One message of the output plugin.
#[derive(Clone)]
pub struct XLogDataBody {
    /// Where the change is in the WAL; 0/0 for messages that belong to no place.
    pub start: Lsn,
    /// End of the server's WAL as of sending.
    pub end: Lsn,
    /// By the server's clock.
    pub sent_at: PgTimestamp,
    pub data: Bytes,
}

impl std::fmt::Debug for XLogDataBody {
    /// Never the data: it holds row values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XLogData({}, {} bytes)", self.start, self.data.len())
    }
}

impl ReplicationMessage {
    /// Reads the payload of a CopyData.
    pub(super) fn parse(mut payload: Bytes) -> Result<ReplicationMessage> {
        let malformed = || Error::connection("malformed replication message from the server");
        let kind = payload.try_get_u8().map_err(|_| malformed())?;
        let mut number = || payload.try_get_u64().map_err(|_| malformed());
        match kind {
            b'w' => {
                let (start, end) = (Lsn::new(number()?), Lsn::new(number()?));
                let sent_at = PgTimestamp(number()?.cast_signed());
                Ok(ReplicationMessage::XLogData(XLogDataBody { start, end, sent_at, data: payload }))
            }
            b'k' => {
                let (end, _sent_at) = (Lsn::new(number()?), number()?);
                let reply = payload.try_get_u8().map_err(|_| malformed())? != 0;
                Ok(ReplicationMessage::Keepalive { end, reply })
            }
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(kind in prop::sample::select(vec![b'w', b'k', b'x']), body in prop::collection::vec(any::<u8>(), 0..40)) {
            let payload = [&[kind][..], &body].concat();
            let wanted = match kind { b'w' => 24, b'k' => 17, _ => usize::MAX };
            prop_assert_eq!(ReplicationMessage::parse(Bytes::from(payload)).is_ok(), body.len() >= wanted);
            prop_assert!(ReplicationMessage::parse(Bytes::new()).is_err());
        }
    }
}
