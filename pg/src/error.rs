//! The one error of walferry: PostgreSQL's primary, detail and hint, a stable code, and what to do about it.
//!
//! PostgreSQL's own DETAIL and CONTEXT carry row values (`Key (id)=(42) already exists`), so they are never taken over.

use std::fmt;

/// What the process does about an error. Exit codes: docs/operations.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A connection was lost or refused: again within 1 to 2 s, never more than 5 s apart.
    Connection,
    /// Somebody must act, or wait (permission, lock, constraint, disk full): again within 2 s, never more than 30 s apart.
    Stop,
    /// Going on would lose or guess: nothing was changed; exit code 4.
    Refuse,
    /// Bad usage or configuration; exit code 2.
    Usage,
    /// The comparison could not be made; exit code 3.
    Unverifiable,
    /// It failed for good; exit code 1.
    Failed,
}

/// Result with walferry's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as a person or a script reads it. Cheap to move (one pointer).
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    class: Class,
    code: String,
    primary: String,
    detail: Option<String>,
    hint: Option<String>,
    sqlstate: Option<String>,
    constraint: Option<String>,
    position: Option<u32>,
}

impl Error {
    /// `code` is stable and for scripts (`SLOT_MISSING`); `primary` is lower case, without a full stop.
    pub fn new(class: Class, code: impl Into<String>, primary: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            class,
            code: code.into(),
            primary: primary.into(),
            detail: None,
            hint: None,
            sqlstate: None,
            constraint: None,
            position: None,
        }))
    }

    pub fn refuse(code: impl Into<String>, primary: impl Into<String>) -> Self {
        Self::new(Class::Refuse, code, primary)
    }

    pub fn stop(code: impl Into<String>, primary: impl Into<String>) -> Self {
        Self::new(Class::Stop, code, primary)
    }

    pub fn usage(primary: impl Into<String>) -> Self {
        Self::new(Class::Usage, "USAGE", primary)
    }

    pub fn failed(code: impl Into<String>, primary: impl Into<String>) -> Self {
        Self::new(Class::Failed, code, primary)
    }

    /// A lost or refused connection that has no SQLSTATE of its own.
    pub fn connection(primary: impl Into<String>) -> Self {
        Self::new(Class::Connection, "CONNECTION", primary)
    }

    /// An ErrorResponse of a server: classified by its SQLSTATE ([`crate::sqlstate::class_of`]).
    pub fn server(sqlstate: &str, primary: impl Into<String>) -> Self {
        let primary = without_values(sqlstate, primary.into());
        let mut error = Self::new(crate::sqlstate::class_of(sqlstate), sqlstate, primary);
        error.0.sqlstate = Some(sqlstate.to_owned());
        error
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The command or SQL that fixes it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts what was being done in front of the primary message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.primary = format!("{doing}: {}", self.0.primary);
        self
    }

    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.0.class = class;
        self
    }

    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = code.into();
        self
    }

    #[must_use]
    pub fn with_constraint(mut self, constraint: Option<String>) -> Self {
        self.0.constraint = constraint;
        self
    }

    /// `position`: 1-based character in the SQL sent.
    #[must_use]
    pub fn with_position(mut self, position: Option<u32>) -> Self {
        self.0.position = position;
        self
    }

    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    #[must_use]
    pub fn primary(&self) -> &str {
        &self.0.primary
    }

    #[must_use]
    pub fn detail_text(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The constraint that the server named.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.0.constraint.as_deref()
    }

    #[must_use]
    pub fn position(&self) -> Option<u32> {
        self.0.position
    }

    #[must_use]
    pub fn is(&self, sqlstate: &str) -> bool {
        self.0.sqlstate.as_deref() == Some(sqlstate)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.primary)?;
        if let Some(sqlstate) = &self.0.sqlstate {
            write!(f, " (SQLSTATE {sqlstate})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {self}", self.0.class, self.0.code)
    }
}

impl std::error::Error for Error {}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let position = match db.position() {
                Some(tokio_postgres::error::ErrorPosition::Original(at)) => Some(*at),
                _ => None,
            };
            let mut out = Error::server(db.code().code(), db.message())
                .with_constraint(db.constraint().map(str::to_owned))
                .with_position(position);
            if let Some(hint) = db.hint() {
                out = out.hint(hint);
            }
            return out;
        }
        let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        Error::connection(format!("{error}{source}"))
    }
}

/// A server's primary message without the row values that some of them quote: `invalid input syntax for type integer: "4711"`,
/// `value "70000" is out of range for type smallint`.
fn without_values(sqlstate: &str, primary: String) -> String {
    // Data exceptions; but a parameter's value (22023) is ours or the server's setting.
    if !sqlstate.starts_with("22") || sqlstate == "22023" {
        return primary;
    }
    // What a sequence says of itself quotes its name, which whoever mends it needs.
    if primary.starts_with("setval: ") || primary.starts_with("nextval: ") {
        return primary;
    }
    let Some((before, rest)) = primary.split_once('"') else { return primary };
    let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
    format!("{before}\"…\"{after}")
}

/// What a trigger or function raises where rows pass may hold anything of them, quoted or not.
/// `routine`, `context`: of the server's message; RAISE may give any SQLSTATE. What walferry's own functions raise has no values in it.
pub(crate) fn raised(sqlstate: &str, routine: Option<&str>, context: Option<&str>) -> Option<&'static str> {
    let raised = sqlstate == "P0001" || routine == Some("exec_stmt_raise");
    let ours = context.is_some_and(|context| context.starts_with("PL/pgSQL function walferry"));
    (raised && !ours).then_some(
        "a function or trigger raised an exception; its message may hold row values and is left out: the server's log has it",
    )
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        // The server ended TLS for a reason of its own (no client certificate, unknown authority): again would be the same.
        if let Some(rustls::Error::AlertReceived(alert)) =
            error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return Error::refuse("TLS", format!("the server ended the TLS session: {alert:?}"))
                .hint("check sslcert and sslkey, and what the server asks of clients in pg_hba.conf");
        }
        Error::connection(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_server_lose_the_values_that_they_quote() {
        for (sqlstate, said, left) in [
            (
                "22P02",
                "invalid input syntax for type integer: \"secret\"",
                "invalid input syntax for type integer: \"…\"",
            ),
            (
                "22P02",
                "invalid input syntax for type integer: \"se\"cr\"et\"",
                "invalid input syntax for type integer: \"…\"",
            ),
            (
                "22003",
                "value \"70000\" is out of range for type smallint",
                "value \"…\" is out of range for type smallint",
            ),
            (
                "22007",
                "invalid input syntax for type date: \"never closed",
                "invalid input syntax for type date: \"…\"",
            ),
            (
                "22001",
                "value too long for type character varying(5)",
                "value too long for type character varying(5)",
            ),
            (
                "22023",
                "invalid value for parameter \"TimeZone\": \"x\"",
                "invalid value for parameter \"TimeZone\": \"x\"",
            ),
            (
                "22003",
                "setval: value 7 is out of bounds for sequence \"never\" (9..12)",
                "setval: value 7 is out of bounds for sequence \"never\" (9..12)",
            ),
            ("42P01", "relation \"public.t\" does not exist", "relation \"public.t\" does not exist"),
        ] {
            assert_eq!(Error::server(sqlstate, said).primary(), left);
        }
    }
}
