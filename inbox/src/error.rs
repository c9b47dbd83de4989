//! What goes wrong: with the worker, or with one event.

use std::{fmt, io};

use rdkafka::error::KafkaError;
use tokio_postgres::error::{DbError, SqlState};

/// A worker that can't go on. What passes by itself never ends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("database: {}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// [`Options::unknown_types`](crate::Options::unknown_types) or another option can't be as it is.
    #[error("{0}")]
    Options(String),
}

/// Why an event could not be handled, and what that means.
#[derive(Debug)]
pub struct Failure {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Something around the event: tried until it is gone, however long that takes.
    Surroundings,
    /// Perhaps the event: tried [`Options::attempts`](crate::Options::attempts) times, then a dead letter.
    Counted,
    /// The event: a dead letter at once.
    Poison,
}

impl Failure {
    /// Trying again would fail again: a dead letter at once.
    pub fn poison(reason: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Poison, text: reason.to_string() }
    }

    /// Trying again may help; after so many attempts it is a dead letter. What `?` makes of most errors.
    pub fn retry(reason: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Counted, text: reason.to_string() }
    }

    /// Something that the event can't be blamed for is away (another service, say): tried until it is back, and everything behind the
    /// event waits with it.
    pub fn wait(reason: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Surroundings, text: reason.to_string() }
    }
}

/// Looks for an error of the database in the whole chain of sources. One whose `source()` leaves that error out (`#[error(transparent)]` does,
/// and where no server has answered nothing of it is left then) has to say itself what it is: [`Failure::wait`].
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let outermost: &(dyn std::error::Error + 'static) = &error;
        for cause in std::iter::successors(Some(outermost), |error| error.source()) {
            let (around, text) = if let Some(error) = cause.downcast_ref::<tokio_postgres::Error>() {
                (surroundings(error), describe(error))
            } else if let Some(error) = cause.downcast_ref::<DbError>() {
                (passes(error.code()), described(error))
            } else {
                continue;
            };
            return Failure { kind: if around { Kind::Surroundings } else { Kind::Counted }, text };
        }
        Failure::retry(error)
    }
}

/// Is it nothing of the statement's own?
pub(crate) fn surroundings(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        return passes(code);
    }
    if error.is_closed() || error.to_string().starts_with(TLS) {
        return true;
    }
    // No server has spoken. What could not be sent or read is the connection's; what Rust and the server disagree about (a row that is not
    // there, a NULL, a type, the number of parameters) is the handler's, and so is what can't be written down as a message.
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() != io::ErrorKind::InvalidInput)
}

/// How an error of the handshake begins; its source is whatever the TLS library has.
const TLS: &str = "error performing TLS handshake";

/// SQLSTATEs that say nothing about the statement: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn passes(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "58" | "XX")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::DATABASE_DROPPED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::QUERY_CANCELED,
        ]
        .contains(code)
}

/// A server's own message without its DETAIL, which holds values of rows.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => described(db),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

fn described(error: &DbError) -> String {
    format!("{} [{}]", error.message(), error.code().code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_any_library_is_tried_again_a_few_times() {
        let parsed: Result<i32, _> = "x".parse::<i32>();
        let failure = Failure::from(parsed.unwrap_err());
        assert_eq!(failure.kind, Kind::Counted);
        assert_eq!(failure.text, "invalid digit found in string");
        assert_eq!(Failure::poison("no").kind, Kind::Poison);
        assert_eq!(Failure::wait("away").kind, Kind::Surroundings);
    }
}
