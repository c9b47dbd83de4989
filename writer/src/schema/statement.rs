//! What a statement of a dump does, as far as its place in a run depends on it.
//!
//! pg_dump's headers are comments and say less than the statement does: a constraint's header doesn't tell its kind, an index's not its
//! table, and newlines in names are gone.

use std::ops::Range;

use pg::QualifiedName;

use super::lex::{Kind, Lexer, Token};

/// A statement that is treated in a way of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Statement {
    CreateSchema {
        name: String,
    },
    CreateExtension {
        name: String,
        schema: Option<String>,
    },
    /// `ALTER TABLE … ADD GENERATED ALWAYS AS IDENTITY`; `always`: where that word stands.
    AddIdentityAlways {
        table: QualifiedName,
        column: String,
        always: Range<usize>,
    },
    /// `CREATE TYPE … AS RANGE`
    CreateRange,
    CreateTable {
        name: QualifiedName,
    },
    CreateIndex {
        table: QualifiedName,
        /// The access method; pg_dump always names it.
        method: String,
    },
    AttachIndex,
    AddConstraint {
        table: QualifiedName,
        only: bool,
        name: String,
        constraint: Constraint,
    },
    /// A constraint of a domain; `unproven` as in [`Constraint::Other`].
    AlterDomain {
        unproven: bool,
    },
    /// CREATE [OR REPLACE] VIEW and MATERIALIZED VIEW.
    CreateView {
        name: QualifiedName,
        materialized: bool,
    },
    /// RULE, TRIGGER, POLICY, ROW SECURITY: what acts by itself.
    Active {
        table: Option<QualifiedName>,
    },
    EventTrigger,
    /// COMMENT, SECURITY LABEL; `what`: the kind of object.
    Comment {
        what: String,
    },
    /// GRANT, REVOKE, ALTER DEFAULT PRIVILEGES.
    Privileges {
        on_schema: bool,
    },
    Other,
}

/// A table constraint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Constraint {
    /// PRIMARY KEY or UNIQUE over plain columns: what follows the word, split for CREATE UNIQUE INDEX … and ADD CONSTRAINT … USING INDEX.
    Key { primary: bool, index: String, timing: String },
    /// EXCLUDE, WITHOUT OVERLAPS.
    OtherIndex,
    /// `unproven`: NOT VALID or NOT ENFORCED.
    ForeignKey { unproven: bool, to: Option<QualifiedName> },
    /// Of 18 alone.
    NotNull { unproven: bool },
    /// CHECK.
    Other { unproven: bool },
}

/// Reads one statement, as [`super::lex::statements`] hands it out.
pub(super) fn read(sql: &str) -> Statement {
    let tokens: Vec<Token<'_>> = Lexer::new(sql).filter(|token| token.kind != Kind::Comment).collect();
    let mut at = Cursor { sql, tokens: &tokens };
    parse(&mut at).unwrap_or(Statement::Other)
}

fn parse(at: &mut Cursor<'_>) -> Option<Statement> {
    if at.eat("CREATE") {
        return create(at);
    }
    if at.eat("ALTER") {
        return alter(at);
    }
    if at.eat("COMMENT") || at.eat_all(&["SECURITY", "LABEL"]) {
        while !at.eat("ON") {
            at.next()?;
        }
        return Some(Statement::Comment { what: at.next()?.text.to_ascii_uppercase() });
    }
    if at.eat("GRANT") || at.eat("REVOKE") {
        let on_schema = at.tokens.windows(2).any(|pair| pair[0].is("ON") && pair[1].is("SCHEMA"));
        return Some(Statement::Privileges { on_schema });
    }
    None
}

fn create(at: &mut Cursor<'_>) -> Option<Statement> {
    at.eat_all(&["OR", "REPLACE"]);
    if at.eat("SCHEMA") {
        at.eat_all(&["IF", "NOT", "EXISTS"]);
        return Some(Statement::CreateSchema { name: at.name()? });
    }
    if at.eat("EXTENSION") {
        at.eat_all(&["IF", "NOT", "EXISTS"]);
        let name = at.name()?;
        let schema = if at.eat_all(&["WITH", "SCHEMA"]) { at.name() } else { None };
        return Some(Statement::CreateExtension { name, schema });
    }
    if at.eat("TYPE") {
        at.qualified()?;
        return at.eat_all(&["AS", "RANGE"]).then_some(Statement::CreateRange);
    }
    if at.eat("TABLE") || at.eat_all(&["UNLOGGED", "TABLE"]) {
        return Some(Statement::CreateTable { name: at.qualified()? });
    }
    if at.eat("INDEX") || at.eat_all(&["UNIQUE", "INDEX"]) {
        at.name()?;
        at.expect("ON")?;
        at.eat("ONLY");
        let table = at.qualified()?;
        let method = if at.eat("USING") { at.name()? } else { "btree".to_owned() };
        return Some(Statement::CreateIndex { table, method });
    }
    if at.eat("VIEW") || at.eat_all(&["RECURSIVE", "VIEW"]) {
        return Some(Statement::CreateView { name: at.qualified()?, materialized: false });
    }
    if at.eat_all(&["MATERIALIZED", "VIEW"]) {
        return Some(Statement::CreateView { name: at.qualified()?, materialized: true });
    }
    if at.eat("RULE") {
        while !at.eat("TO") {
            at.next()?;
        }
        return Some(Statement::Active { table: at.qualified() });
    }
    if at.eat("TRIGGER") || at.eat_all(&["CONSTRAINT", "TRIGGER"]) || at.eat("POLICY") {
        at.name()?;
        while !at.eat("ON") {
            at.next()?;
        }
        return Some(Statement::Active { table: at.qualified() });
    }
    at.eat_all(&["EVENT", "TRIGGER"]).then_some(Statement::EventTrigger)
}

fn alter(at: &mut Cursor<'_>) -> Option<Statement> {
    if at.eat("INDEX") {
        at.qualified()?;
        return at.eat("ATTACH").then_some(Statement::AttachIndex);
    }
    if at.eat("DOMAIN") {
        return Some(Statement::AlterDomain { unproven: at.ends_unproven() });
    }
    if at.eat_all(&["DEFAULT", "PRIVILEGES"]) {
        return Some(Statement::Privileges { on_schema: false });
    }
    at.expect("TABLE")?;
    let only = at.eat("ONLY");
    let table = at.qualified()?;
    if at.eat_all(&["ADD", "CONSTRAINT"]) {
        let name = at.name()?;
        let constraint = constraint(at)?;
        return Some(Statement::AddConstraint { table, only, name, constraint });
    }
    if at.eat_all(&["ALTER", "COLUMN"]) {
        let column = at.name()?;
        at.eat_all(&["ADD", "GENERATED"]).then_some(())?;
        let always = *at.tokens.first()?;
        return always.is("ALWAYS").then(|| Statement::AddIdentityAlways {
            table,
            column,
            always: always.start..always.end(),
        });
    }
    let word = at.next()?;
    let active = word.is("ENABLE") || word.is("DISABLE");
    active.then_some(Statement::Active { table: Some(table) })
}

fn constraint(at: &mut Cursor<'_>) -> Option<Constraint> {
    if at.eat_all(&["FOREIGN", "KEY"]) {
        let unproven = at.ends_unproven();
        at.parentheses()?;
        let to = if at.eat("REFERENCES") { at.qualified() } else { None };
        return Some(Constraint::ForeignKey { unproven, to });
    }
    let primary = at.eat_all(&["PRIMARY", "KEY"]);
    if !primary && !at.eat("UNIQUE") {
        let other = if at.eat("EXCLUDE") {
            Constraint::OtherIndex
        } else if at.eat_all(&["NOT", "NULL"]) {
            Constraint::NotNull { unproven: at.ends_unproven() }
        } else {
            Constraint::Other { unproven: at.ends_unproven() }
        };
        return Some(other);
    }
    let nulls = at.eat_all(&["NULLS", "NOT", "DISTINCT"]);
    let columns = at.parentheses()?;
    if Lexer::new(columns).any(|token| token.is("WITHOUT")) {
        return Some(Constraint::OtherIndex);
    }
    let mut index = columns.to_owned();
    if at.eat("INCLUDE") {
        index += &format!(" INCLUDE {}", at.parentheses()?);
    }
    if nulls {
        index += " NULLS NOT DISTINCT";
    }
    if at.eat("WITH") {
        index += &format!(" WITH {}", at.parentheses()?);
    }
    let timing = at.rest().to_owned();
    Some(Constraint::Key { primary, index, timing })
}

/// Reads tokens from the front.
struct Cursor<'a> {
    sql: &'a str,
    tokens: &'a [Token<'a>],
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    fn eat(&mut self, keyword: &str) -> bool {
        self.eat_all(&[keyword])
    }

    fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let there = self.tokens.len() >= keywords.len()
            && self.tokens.iter().zip(keywords).all(|(token, keyword)| token.is(keyword));
        if there {
            self.tokens = &self.tokens[keywords.len()..];
        }
        there
    }

    fn expect(&mut self, keyword: &str) -> Option<()> {
        self.eat(keyword).then_some(())
    }

    fn name(&mut self) -> Option<String> {
        let token = self.next()?;
        match token.kind {
            Kind::Word => Some(token.text.to_owned()),
            Kind::Quoted => Some(token.text.strip_prefix('"')?.strip_suffix('"')?.replace("\"\"", "\"")),
            _ => None,
        }
    }

    fn qualified(&mut self) -> Option<QualifiedName> {
        let schema = self.name()?;
        if !self.next()?.is_symbol(".") {
            return None;
        }
        Some(QualifiedName::new(schema, self.name()?))
    }

    /// `( … )` at the front, as it is written.
    fn parentheses(&mut self) -> Option<&'a str> {
        let first = self.next().filter(|token| token.is_symbol("("))?;
        let mut depth = 1;
        loop {
            let token = self.next()?;
            if token.is_symbol("(") {
                depth += 1;
            } else if token.is_symbol(")") {
                depth -= 1;
                if depth == 0 {
                    return Some(&self.sql[first.start..token.end()]);
                }
            }
        }
    }

    fn rest(&self) -> &'a str {
        self.tokens.first().map_or("", |token| self.sql[token.start..].trim_end())
    }

    /// NOT VALID or NOT ENFORCED at the end.
    fn ends_unproven(&self) -> bool {
        let [.., not, word] = self.tokens else { return false };
        not.is("NOT") && (word.is("VALID") || word.is("ENFORCED"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> QualifiedName {
        QualifiedName::new("s", "t \"x\"")
    }

    fn added(sql: &str) -> Constraint {
        match read(&format!("ALTER TABLE ONLY s.\"t \"\"x\"\"\"\n    ADD CONSTRAINT \"c k\" {sql}")) {
            Statement::AddConstraint { table: of, only: true, name, constraint } => {
                assert_eq!((of, name.as_str()), (table(), "c k"));
                constraint
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn constraints_are_told_apart() {
        let key = |primary, index: &str, timing: &str| Constraint::Key {
            primary,
            index: index.into(),
            timing: timing.into(),
        };
        assert_eq!(added("PRIMARY KEY (a, \"b)\")"), key(true, "(a, \"b)\")", ""));
        assert_eq!(
            added(
                "UNIQUE NULLS NOT DISTINCT (a) INCLUDE (b) WITH (fillfactor='70') DEFERRABLE INITIALLY DEFERRED"
            ),
            key(
                false,
                "(a) INCLUDE (b) NULLS NOT DISTINCT WITH (fillfactor='70')",
                "DEFERRABLE INITIALLY DEFERRED"
            )
        );
        assert_eq!(added("PRIMARY KEY (id, during WITHOUT OVERLAPS)"), Constraint::OtherIndex);
        assert_eq!(added("EXCLUDE USING gist (a WITH =)"), Constraint::OtherIndex);
        let foreign = |unproven| Constraint::ForeignKey { unproven, to: Some(QualifiedName::new("s", "p")) };
        assert_eq!(added("FOREIGN KEY (a, \"(\") REFERENCES s.p(id)"), foreign(false));
        assert_eq!(added("FOREIGN KEY (a) REFERENCES s.p(id) DEFERRABLE NOT VALID"), foreign(true));
        assert_eq!(added("CHECK ((a <> 'x NOT VALID'::text))"), Constraint::Other { unproven: false });
        assert_eq!(added("NOT NULL d NOT VALID"), Constraint::NotNull { unproven: true });
    }

    #[test]
    fn tables_are_found_behind_odd_names() {
        for (sql, method) in [
            ("CREATE UNIQUE INDEX \"x ON y\" ON ONLY s.\"t \"\"x\"\"\" USING btree (a) WHERE (b)", "btree"),
            ("CREATE INDEX \"new\nline\" ON s.\"t \"\"x\"\"\" USING gin (a)", "gin"),
        ] {
            assert_eq!(read(sql), Statement::CreateIndex { table: table(), method: method.to_owned() });
        }
        for sql in [
            "CREATE CONSTRAINT TRIGGER \"ON\" AFTER INSERT ON s.\"t \"\"x\"\"\" FOR EACH ROW EXECUTE FUNCTION f()",
            "CREATE RULE \"TO\" AS\n    ON DELETE TO s.\"t \"\"x\"\"\" DO INSTEAD NOTHING",
            "CREATE POLICY p ON s.\"t \"\"x\"\"\" USING (true)",
            "ALTER TABLE s.\"t \"\"x\"\"\" ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE s.\"t \"\"x\"\"\" DISABLE TRIGGER a",
        ] {
            assert_eq!(read(sql), Statement::Active { table: Some(table()) }, "{sql}");
        }
    }

    #[test]
    fn identity_always_is_found_only_where_it_is_meant() {
        let sql = "ALTER TABLE s.\"t \"\"x\"\"\" ALTER COLUMN \"ALWAYS\" ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME s.q)";
        let Statement::AddIdentityAlways { column, always, .. } = read(sql) else { panic!() };
        assert_eq!((column.as_str(), &sql[always.clone()], always.start > 50), ("ALWAYS", "ALWAYS", true));
        assert_eq!(
            read("ALTER TABLE s.t ALTER COLUMN a ADD GENERATED BY DEFAULT AS IDENTITY (START WITH 1)"),
            Statement::Other
        );
    }
}
