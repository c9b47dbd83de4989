//! SQL as tokens: enough of PostgreSQL's lexer to know what is text and what is not.
//!
//! A dump holds bodies of functions, literals and names that look like SQL, or like a dump. This knows quoted identifiers, literals
//! (also E'…' with its backslashes), dollar quotes and nested comments, under `standard_conforming_strings = on`, which pg_dump sets.
//! Lexical structure: <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Keyword or unquoted identifier.
    Word,
    /// `"…"`
    Quoted,
    /// `'…'`, `E'…'`, `$tag$…$tag$`
    Literal,
    Number,
    /// One character.
    Symbol,
    Comment,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Offset in the text that was scanned.
    pub start: usize,
}

impl Token<'_> {
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }
}

/// The tokens of a text, without white space. What is not closed reaches to the end.
pub(super) struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(sql: &'a str) -> Self {
        Lexer { sql, at: 0 }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.sql[self.at..];
        let rest = rest.trim_start();
        let start = self.sql.len() - rest.len();
        let first = rest.chars().next()?;
        let (kind, length) = match first {
            '-' if rest.starts_with("--") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (Kind::Comment, block_comment(rest)),
            '\'' => (Kind::Literal, quoted(rest, '\'', false)),
            '"' => (Kind::Quoted, quoted(rest, '"', false)),
            '$' => match dollar_tag(rest) {
                Some(tag) => {
                    let body = &rest[tag.len()..];
                    let end = body.find(tag).map_or(rest.len(), |at| at + 2 * tag.len());
                    (Kind::Literal, end)
                }
                None => (Kind::Symbol, 1),
            },
            c if c.is_ascii_digit() => {
                (Kind::Number, rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()))
            }
            c if is_word_start(c) => {
                let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                // A literal with a prefix: only E'…' knows backslashes.
                match (&rest[..length], rest[length..].starts_with('\'')) {
                    ("E" | "e", true) => (Kind::Literal, length + quoted(&rest[length..], '\'', true)),
                    ("B" | "b" | "X" | "x" | "N" | "n", true) => {
                        (Kind::Literal, length + quoted(&rest[length..], '\'', false))
                    }
                    _ => (Kind::Word, length),
                }
            }
            c => (Kind::Symbol, c.len_utf8()),
        };
        self.at = start + length;
        Some(Token { kind, text: &rest[..length], start })
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

/// Length of what starts with `quote`; a doubled one stands for itself.
fn quoted(text: &str, quote: char, backslashes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if backslashes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// `$tag$` at the front; `$1` is none.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 2;
    let name = &text[1..end - 1];
    let valid =
        name.chars().all(|c| is_word(c) && c != '$') && !name.starts_with(|c: char| c.is_ascii_digit());
    valid.then_some(&text[..end])
}

/// The statements of a text, without their semicolons. Knows rules with several actions, in parentheses, and bodies of SQL-standard
/// functions, `BEGIN ATOMIC … END`, in which CASE has an END too.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut parentheses = 0_i32;
    let mut body = 0_i32;
    let mut previous: Option<Token<'_>> = None;
    // Comments between statements belong to none.
    let mut begun = false;
    for token in Lexer::new(sql).filter(|token| token.kind != Kind::Comment) {
        if !begun {
            start = token.start;
            begun = true;
        }
        match token.kind {
            Kind::Symbol if token.text == "(" => parentheses += 1,
            Kind::Symbol if token.text == ")" => parentheses -= 1,
            Kind::Symbol if token.text == ";" && parentheses <= 0 && body == 0 => {
                let end = previous.map_or(start, |last| last.end().max(start));
                found.push(&sql[start..end]);
                begun = false;
            }
            Kind::Word if body == 0 && token.is("ATOMIC") && previous.is_some_and(|t| t.is("BEGIN")) => {
                body = 1
            }
            Kind::Word if body > 0 && token.is("CASE") => body += 1,
            Kind::Word if body > 0 && token.is("END") => body -= 1,
            _ => {}
        }
        previous = Some(token);
    }
    if let (true, Some(last)) = (begun, previous) {
        found.push(&sql[start..last.end()]);
    }
    found.retain(|statement| !statement.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(sql: &str) -> Vec<(Kind, &str)> {
        Lexer::new(sql).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn text_is_told_from_sql() {
        assert_eq!(
            kinds(r#"a$b "c ""d" 'e''f' E'g\'h' $t$ $$ i $t$ $1 -- j"#),
            [
                (Kind::Word, "a$b"),
                (Kind::Quoted, "\"c \"\"d\""),
                (Kind::Literal, "'e''f'"),
                (Kind::Literal, r"E'g\'h'"),
                (Kind::Literal, "$t$ $$ i $t$"),
                (Kind::Symbol, "$"),
                (Kind::Number, "1"),
                (Kind::Comment, "-- j"),
            ]
        );
        assert_eq!(kinds("/* a /* b */ ' */ é"), [(Kind::Comment, "/* a /* b */ ' */"), (Kind::Word, "é")]);
        assert_eq!(kinds(r"'\' x"), [(Kind::Literal, r"'\'"), (Kind::Word, "x")]);
        assert_eq!(kinds("'open"), [(Kind::Literal, "'open")]);
    }

    #[test]
    fn statements_end_where_they_end() {
        let atomic = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN CASE b WHEN 1 THEN 2 END END; \
                      SELECT 1 AS \"end\"; END";
        let rule = "CREATE RULE r AS ON DELETE TO t DO ALSO (DELETE FROM a; DELETE FROM b)";
        let text = format!("{atomic};\n{rule}; SELECT ';' -- ;\n;\n");
        assert_eq!(statements(&text), [atomic, rule, "SELECT ';'"]);
        assert_eq!(statements("  \n-- *not* creating\n"), Vec::<&str>::new());
    }
}
