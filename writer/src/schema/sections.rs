//! pg_dump's plain SQL, taken apart into its entries.
//!
//! Each entry starts with a comment of three lines: `--`, `-- Name: …; Type: …; Schema: …; Owner: …`, `--`. A function's body, a literal
//! or a name may hold such lines too: only those count that the lexer sees as comments. What stands before the first entry and after the
//! last is dropped: `\restrict` and `\unrestrict` are for psql, the SETs are replaced by the session's own (pg_dump 17+ sets
//! `transaction_timeout`, an error before 17). In between, pg_dump sets the tablespace and the access method of what comes next; they are
//! kept with the entries, because entries of post-data run on any session in any order.

use super::lex::{Kind, Lexer, Token, statements};

/// One entry of the dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// pg_dump's word: `TABLE`, `FK CONSTRAINT` …
    pub kind: String,
    /// Empty where there is none.
    pub schema: String,
    /// The tag: for what belongs to a table, `table object`. Newlines are blanks.
    pub name: String,
    /// The statements, each ended by a semicolon.
    pub sql: String,
    /// `SET LOCAL` commands that the statements need; empty for the defaults.
    pub storage: String,
}

impl Entry {
    /// What the statements are run as: alone, in any session whose storage settings are the defaults.
    #[must_use]
    pub fn script(&self) -> String {
        format!("{}{}", self.storage, self.sql)
    }
}

const COMPLETE: &str = "-- PostgreSQL database dump complete";

/// Has pg_dump written to the end?
#[must_use]
pub fn is_complete(dump: &str) -> bool {
    dump.trim_end().lines().rev().take(8).any(|line| line == COMPLETE)
}

/// The entries of a plain dump, in order.
#[must_use]
pub fn entries(dump: &str) -> Vec<Entry> {
    let mut storage = Storage::default();
    let mut entries = Vec::new();
    let cuts = cuts(dump);
    for statement in statements(&dump[..cuts.first().map_or(0, |first| first.start)]) {
        storage.takes(statement);
    }
    for (at, cut) in cuts.iter().enumerate() {
        let Some(header) = &cut.header else { continue };
        let end = cuts.get(at + 1).map_or(dump.len(), |next| next.start);
        let [name, kind, schema] = header.map(str::to_owned);
        let mut entry = Entry { kind, schema, name, sql: String::new(), storage: storage.commands() };
        for statement in statements(&dump[cut.end..end]) {
            // Set for what follows.
            if storage.takes(statement) {
                if entry.sql.is_empty() {
                    entry.storage = storage.commands();
                }
                continue;
            }
            entry.sql.push_str(statement);
            entry.sql.push_str(";\n");
        }
        if !entry.sql.is_empty() {
            entries.push(entry);
        }
    }
    entries
}

/// Where an entry starts (or, without a header, where something ends that is none of it).
struct Cut<'a> {
    start: usize,
    /// Behind the header.
    end: usize,
    /// Name, type, schema.
    header: Option<[&'a str; 3]>,
}

fn cuts(dump: &str) -> Vec<Cut<'_>> {
    let mut cuts = Vec::new();
    let mut before: Option<Token<'_>> = None;
    for token in Lexer::new(dump) {
        let follows_rule = before.is_some_and(|line| {
            line.kind == Kind::Comment && line.text == "--" && line.end() + 1 == token.start
        });
        if let (true, Kind::Comment, Some(line)) = (follows_rule, token.kind, before) {
            if token.text == COMPLETE {
                cuts.push(Cut { start: line.start, end: token.end(), header: None });
            } else if let Some(header) = header(token.text) {
                cuts.push(Cut { start: line.start, end: token.end(), header: Some(header) });
            }
        }
        before = Some(token);
    }
    cuts
}

fn header(line: &str) -> Option<[&str; 3]> {
    let rest = line.strip_prefix("-- Name: ")?;
    // A name may contain any of these words: the last ones count.
    let (rest, _owner) = rest.rsplit_once("; Owner:")?;
    let (rest, schema) = rest.rsplit_once("; Schema: ")?;
    let (name, kind) = rest.rsplit_once("; Type: ")?;
    Some([name, kind, if schema == "-" { "" } else { schema }])
}

/// What pg_dump has SET at a place of the dump.
#[derive(Default)]
struct Storage {
    tablespace: Option<String>,
    access_method: Option<String>,
}

impl Storage {
    fn takes(&mut self, statement: &str) -> bool {
        for (setting, default, value) in [
            ("SET default_tablespace = ", "''", &mut self.tablespace),
            ("SET default_table_access_method = ", "heap", &mut self.access_method),
        ] {
            if let Some(to) = statement.strip_prefix(setting) {
                // Only for the statements of one transaction.
                *value = (to != default).then(|| format!("SET LOCAL {}{to};\n", &setting[4..]));
                return true;
            }
        }
        false
    }

    fn commands(&self) -> String {
        [&self.tablespace, &self.access_method].into_iter().flatten().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_inside_bodies_and_strings_are_text() {
        let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\nSET transaction_timeout = 0;\n\n\
            --\n-- Name: f(); Type: FUNCTION; Schema: s; Owner: o\n--\n\nCREATE FUNCTION s.f() RETURNS text\n    AS $_$\n--\n\
            -- Name: x; Type: TABLE; Schema: s; Owner: o\n--\nSELECT 'it''s' -- $_ $$\n$_$;\n\n\
            --\n-- Name: EXTENSION e; Type: COMMENT; Schema: -; Owner: \n--\n\nCOMMENT ON EXTENSION e IS 'e';\n\n\
            --\n-- Name: a; Type: b; Type: TABLE; Schema: s; Owner: o\n--\n\nCREATE TABLE s.\"a; Type: b\" (x text DEFAULT E'\\'\n--\n\
            -- Name: y; Type: TABLE; Schema: s; Owner: o\n--\n');\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";
        let entries = entries(dump);
        let named: Vec<_> =
            entries.iter().map(|e| (e.kind.as_str(), e.schema.as_str(), e.name.as_str())).collect();
        assert_eq!(
            named,
            [("FUNCTION", "s", "f()"), ("COMMENT", "", "EXTENSION e"), ("TABLE", "s", "a; Type: b")]
        );
        assert!(entries[0].sql.starts_with("CREATE FUNCTION") && entries[0].sql.ends_with("$_$;\n"));
        assert!(entries[2].sql.ends_with("');\n"));
        assert!(is_complete(dump) && !is_complete(&dump[..dump.len() - 60]));
    }

    #[test]
    fn storage_goes_with_what_follows() {
        let header = |name: &str| format!("--\n-- Name: {name}; Type: TABLE; Schema: s; Owner: o\n--\n\n");
        let dump = format!(
            "\\restrict abc\nSET row_security = off;\nSET default_tablespace = '';\n{}CREATE TABLE s.a ();\n\nSET default_tablespace = \"fast; disk\";\n\n\
             SET default_table_access_method = heap;\n\n{}CREATE TABLE s.b ();\nALTER TABLE s.b OWNER TO o;\n\
             SET default_tablespace = '';\n{}CREATE TABLE s.c ();\n",
            header("a"),
            header("b"),
            header("c")
        );
        let entries = entries(&dump);
        assert_eq!(entries[0].script(), "CREATE TABLE s.a ();\n");
        assert_eq!(
            entries[1].script(),
            "SET LOCAL default_tablespace = \"fast; disk\";\nCREATE TABLE s.b ();\nALTER TABLE s.b OWNER TO o;\n"
        );
        assert_eq!(entries[2].storage, "");
    }
}
