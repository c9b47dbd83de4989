//! One message of the server.

use bytes::Bytes;

use crate::{Error, Result};

/// First bytes of the messages that a server sends.
pub mod tag {
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// A message: its first byte ([`tag`]) and its body, a slice of the read buffer.
#[derive(Clone)]
pub struct Frame {
    pub tag: u8,
    pub body: Bytes,
}

/// What the server remarked without being asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Not translated: `WARNING`, `NOTICE` …
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
}

impl Frame {
    /// An ErrorResponse as [`Error`]: SQLSTATE, primary, hint, constraint and position; never DETAIL, which carries row values.
    #[must_use]
    pub fn error(&self) -> Error {
        let field = |wanted| self.field(wanted);
        let sqlstate = field(b'C').unwrap_or("XX000");
        let raised = crate::error::raised(sqlstate, field(b'R'), field(b'W'));
        let mut error = Error::server(
            sqlstate,
            raised.or_else(|| field(b'M')).unwrap_or("the server sent an error without a message"),
        )
        .with_constraint(field(b'n').map(str::to_owned))
        .with_position(field(b'P').and_then(|position| position.parse().ok()));
        if let Some(hint) = field(b'H').filter(|_| raised.is_none()) {
            error = error.hint(hint);
        }
        error
    }

    /// The frame, or the error that it is.
    pub fn into_result(self) -> Result<Frame> {
        if self.tag == tag::ERROR_RESPONSE { Err(self.error()) } else { Ok(self) }
    }

    /// The error that this frame is when something else was expected.
    #[must_use]
    pub fn unexpected(&self, doing: &str) -> Error {
        if self.tag == tag::ERROR_RESPONSE {
            return self.error();
        }
        Error::connection(format!("unexpected message {:?} {doing}", char::from(self.tag)))
    }

    /// Number of rows of a CommandComplete (`INSERT 0 5`, `COPY 7`); 0 where the command counts none.
    #[must_use]
    pub fn affected_rows(&self) -> u64 {
        let text = self.body.strip_suffix(b"\0").unwrap_or(&self.body);
        let last = text.rsplit(|b| *b == b' ').next().unwrap_or_default();
        std::str::from_utf8(last).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    pub(super) fn notice(&self) -> Notice {
        Notice {
            severity: self.field(b'V').or(self.field(b'S')).unwrap_or("NOTICE").to_owned(),
            sqlstate: self.field(b'C').unwrap_or_default().to_owned(),
            message: self.field(b'M').unwrap_or_default().to_owned(),
        }
    }

    /// Name and value of a ParameterStatus.
    pub(super) fn parameter(&self) -> Option<(&str, &str)> {
        let mut strings = self.body.split(|b| *b == 0).map(std::str::from_utf8);
        Some((strings.next()?.ok()?, strings.next()?.ok()?))
    }

    /// A field of an ErrorResponse or NoticeResponse.
    fn field(&self, wanted: u8) -> Option<&str> {
        let fields = self.body.split(|b| *b == 0).filter_map(<[u8]>::split_first);
        let (_, value) = fields.into_iter().find(|(kind, _)| **kind == wanted)?;
        // A server that failed before it knew our encoding may send anything.
        std::str::from_utf8(value).ok()
    }
}

impl std::fmt::Debug for Frame {
    /// Never the body: it may hold row values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:?}, {} bytes)", char::from(self.tag), self.body.len())
    }
}
