//! The few places where the target gets other words than pg_dump wrote.

use pg::{QualifiedName, quote_ident};

use super::lex::{Kind, Lexer, Token};

/// `sql` with `GENERATED ALWAYS AS IDENTITY` as BY DEFAULT. An UPDATE that sets such a column is an error (428C9) while it is ALWAYS;
/// it becomes ALWAYS again when the target is opened.
pub(super) fn by_default(sql: &str, always: std::ops::Range<usize>) -> String {
    format!("{}BY DEFAULT{}", &sql[..always.start], &sql[always.end..])
}

/// A CREATE TABLE of PostgreSQL 18 for an older server: NOT NULL is a constraint only since 18, so `NOT NULL a` in the list of columns
/// (pg_dump writes it for inherited columns) becomes ALTER COLUMN … SET NOT NULL, and NO INHERIT goes. `None`: nothing to do.
pub(super) fn not_null_before_18(sql: &str, table: &QualifiedName) -> Option<String> {
    let tokens: Vec<Token<'_>> = Lexer::new(sql).filter(|token| token.kind != Kind::Comment).collect();
    let open = tokens.iter().position(|token| token.is_symbol("("))?;
    let (elements, close) = elements(&tokens, open)?;
    let mut kept: Vec<String> = Vec::new();
    let mut alter = String::new();
    let mut changed = false;
    for element in elements {
        let first = element.first()?;
        let named = if first.is("CONSTRAINT") { element.get(2..)? } else { element };
        if let [not, null, column, ..] = named
            && not.is("NOT")
            && null.is("NULL")
        {
            alter += &format!(";\nALTER TABLE ONLY {table} ALTER COLUMN {} SET NOT NULL", identifier(column));
            changed = true;
            continue;
        }
        let end = element.last()?.end();
        let mut text = String::new();
        let mut from = first.start;
        for four in element.windows(4) {
            if four[0].is("NOT") && four[1].is("NULL") && four[2].is("NO") && four[3].is("INHERIT") {
                text.push_str(&sql[from..four[1].end()]);
                from = four[3].end();
                changed = true;
            }
        }
        text.push_str(&sql[from..end]);
        kept.push(text);
    }
    changed.then(|| {
        let (head, tail) = (&sql[..tokens[open].end()], &sql[close..]);
        let list = if kept.is_empty() { String::new() } else { format!("\n    {}\n", kept.join(",\n    ")) };
        format!("{head}{list}{tail}{alter}")
    })
}

/// A range type of 14 or newer for an older server, which has no multiranges. `None`: nothing to do.
pub(super) fn range_before_14(sql: &str) -> Option<String> {
    let tokens: Vec<Token<'_>> = Lexer::new(sql).filter(|token| token.kind != Kind::Comment).collect();
    let open = tokens.iter().position(|token| token.is_symbol("("))?;
    let (elements, close) = elements(&tokens, open)?;
    let all = elements.len();
    let mut kept = Vec::new();
    for element in elements {
        let (first, last) = (element.first()?, element.last()?);
        if !first.is("multirange_type_name") {
            kept.push(&sql[first.start..last.end()]);
        }
    }
    let (head, tail) = (&sql[..tokens[open].end()], &sql[close..]);
    (kept.len() < all).then(|| format!("{head}\n    {}\n{tail}", kept.join(",\n    ")))
}

fn identifier(token: &Token<'_>) -> String {
    if token.kind == Kind::Quoted { token.text.to_owned() } else { quote_ident(token.text) }
}

/// The elements of the list that opens at `open`, and the offset of its closing parenthesis.
fn elements<'t, 'a>(tokens: &'t [Token<'a>], open: usize) -> Option<(Vec<&'t [Token<'a>]>, usize)> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut start = open + 1;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.is_symbol("(") {
            depth += 1;
        } else if token.is_symbol(")") {
            depth -= 1;
        }
        let ends = depth == 0 || depth == 1 && token.is_symbol(",");
        if ends {
            if start < at {
                found.push(&tokens[start..at]);
            }
            start = at + 1;
        }
        if depth == 0 {
            return Some((found, token.start));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lose_their_multirange() {
        let sql = "CREATE TYPE s.r AS RANGE (\n    subtype = text,\n    multirange_type_name = s.\"m, r\",\n    collation = s.\"C\"\n)";
        let older = "CREATE TYPE s.r AS RANGE (\n    subtype = text,\n    collation = s.\"C\"\n)";
        assert_eq!(range_before_14(sql).as_deref(), Some(older));
        assert_eq!(range_before_14(older), None);
    }

    #[test]
    fn not_null_constraints_become_attributes() {
        let table = QualifiedName::new("s", "t");
        let sql = "CREATE TABLE s.t (\n    NOT NULL id,\n    a numeric(3,2) DEFAULT f(1, 2) CONSTRAINT c NOT NULL NO INHERIT CHECK (a > 0),\n    \
                   CONSTRAINT n NOT NULL \"b c\" NO INHERIT,\n    CONSTRAINT k CHECK ((a <> 1)) NO INHERIT\n)\nINHERITS (s.p)";
        assert_eq!(
            not_null_before_18(sql, &table).unwrap(),
            "CREATE TABLE s.t (\n    a numeric(3,2) DEFAULT f(1, 2) CONSTRAINT c NOT NULL CHECK (a > 0),\n    \
             CONSTRAINT k CHECK ((a <> 1)) NO INHERIT\n)\nINHERITS (s.p);\n\
             ALTER TABLE ONLY \"s\".\"t\" ALTER COLUMN \"id\" SET NOT NULL;\n\
             ALTER TABLE ONLY \"s\".\"t\" ALTER COLUMN \"b c\" SET NOT NULL"
        );
        assert_eq!(not_null_before_18("CREATE TABLE s.t (\n    a integer NOT NULL\n)", &table), None);
        assert_eq!(
            not_null_before_18("CREATE TABLE s.t (\n    NOT NULL id\n)\nINHERITS (s.p)", &table).unwrap(),
            "CREATE TABLE s.t ()\nINHERITS (s.p);\nALTER TABLE ONLY \"s\".\"t\" ALTER COLUMN \"id\" SET NOT NULL"
        );
    }
}
