//! What goes wrong: with the worker, or with one event.

use std::fmt;

use rdkafka::error::KafkaError;
use tokio_postgres::error::SqlState;

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

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error: &(dyn std::error::Error + 'static) = &error;
        match error.downcast_ref::<tokio_postgres::Error>() {
            Some(error) => Failure {
                kind: if surroundings(error) { Kind::Surroundings } else { Kind::Counted },
                text: describe(error),
            },
            None => Failure::retry(error),
        }
    }
}

/// SQLSTATEs that say nothing about the statement: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(crate) fn surroundings(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // No server has spoken: the connection is gone. A value that Rust and the column's type disagree about is the handler's mistake.
        let conversion = std::error::Error::source(error)
            .is_some_and(|source| source.is::<tokio_postgres::types::WrongType>());
        return error.is_closed() || !conversion;
    };
    let (class, code) = (code.code().get(..2).unwrap_or_default(), code);
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
        Some(db) => format!("{} [{}]", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
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
