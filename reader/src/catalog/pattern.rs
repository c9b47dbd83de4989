//! pg_dump's patterns for names of schemas and tables.
//!
//! `*` and `?` are wildcards, letters outside of double quotes are folded to lower case, a dot outside of quotes stands between schema
//! and name: <https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS>

use pg::{Error, Result};

/// A pattern as two regular expressions for the server's `~`; `schema` is absent where the pattern has no dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    pub schema: Option<String>,
    pub name: String,
}

impl Pattern {
    /// `--schema`, `--exclude-schema`: the whole pattern names a schema.
    pub fn schema(text: &str) -> Result<String> {
        let parts = parts(text)?;
        match parts.as_slice() {
            [name] => Ok(name.clone()),
            _ => Err(Error::usage(format!("invalid schema pattern \"{text}\": too many dots"))
                .hint("put a name that contains a dot into double quotes")),
        }
    }

    /// `--table`, `--exclude-table`.
    pub fn table(text: &str) -> Result<Pattern> {
        match parts(text)?.as_slice() {
            [name] => Ok(Pattern { schema: None, name: name.clone() }),
            [schema, name] => Ok(Pattern { schema: Some(schema.clone()), name: name.clone() }),
            _ => Err(Error::usage(format!("invalid table pattern \"{text}\": too many dots"))
                .hint("write schema.table, with names that contain a dot in double quotes")),
        }
    }
}

/// As PostgreSQL's processSQLNamePattern: outside of quotes `*`, `?` and `.` mean something, `$` and `[]` don't, and every other
/// character of a regular expression does.
fn parts(text: &str) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '*' if !quoted => part.push_str(".*"),
            '?' if !quoted => part.push('.'),
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            '$' => part.push_str("\\$"),
            '[' if !quoted && chars.peek() == Some(&']') => part.push_str("\\["),
            c if quoted && "\\.*+?()[]{}|^".contains(c) => part.extend(['\\', c]),
            c if quoted => part.push(c),
            // The server folds ASCII only, where its encoding has more than one byte a character.
            c => part.push(c.to_ascii_lowercase()),
        }
    }
    if quoted {
        return Err(Error::usage(format!("invalid pattern {text}: a double quote is not closed")));
    }
    parts.push(part);
    if parts.iter().any(String::is_empty) {
        return Err(Error::usage(format!("invalid pattern \"{text}\": a name is empty")));
    }
    Ok(parts.into_iter().map(|part| format!("^({part})$")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_like_pg_dump_s() {
        for (text, schema, name) in [
            ("orders", None, "^(orders)$"),
            ("App.Ord*", Some("^(app)$"), "^(ord.*)$"),
            ("\"App\".\"a.b\"\"c*\"", Some("^(App)$"), "^(a\\.b\"c\\*)$"),
            ("a?$1", None, "^(a.\\$1)$"),
            ("A|b[0-9]+", None, "^(a|b[0-9]+)$"),
            ("x[]", None, "^(x\\[])$"),
            ("\"x[]|(\\\"", None, "^(x\\[\\]\\|\\(\\\\)$"),
            ("ÄÖ", None, "^(ÄÖ)$"),
        ] {
            let pattern = Pattern::table(text).unwrap();
            assert_eq!((pattern.schema.as_deref(), pattern.name.as_str()), (schema, name), "{text}");
        }
        for text in ["", "a.b.c", "\"a", "a."] {
            assert!(Pattern::table(text).is_err(), "{text}");
        }
    }
}
