//! What goes to the producer.

use std::fmt;
use std::str::FromStr;

use pg::{Lsn, QualifiedName};

/// One Kafka message, borrowed from the encoder's buffers until the callback returns.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub topic: &'a str,
    /// The table of a row event, tombstone or truncate; none for transaction markers, heartbeats and logical messages.
    pub table: Option<&'a QualifiedName>,
    /// None: the table has no key, or the event is a truncate.
    pub key: Option<&'a [u8]>,
    /// None: a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// The name of a change: (commit LSN, index in its transaction). The index counts events from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    pub commit_lsn: Lsn,
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.commit_lsn, self.index)
    }
}

/// The text is not `<LSN>,<index>`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid position: expected an LSN, a comma and a number")]
pub struct ParsePositionError;

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Position, ParsePositionError> {
        let (lsn, index) = text.split_once(',').ok_or(ParsePositionError)?;
        if !index.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(ParsePositionError);
        }
        Ok(Position {
            commit_lsn: lsn.parse().map_err(|_| ParsePositionError)?,
            index: index.parse().map_err(|_| ParsePositionError)?,
        })
    }
}
