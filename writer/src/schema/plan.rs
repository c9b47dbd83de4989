//! Entries of post-data, sorted into phases. Pure: what the target is like comes in.
//!
//! ```text
//! INDEX, keys        ─► index     CREATE [UNIQUE] INDEX alone: it doesn't keep another index of the table waiting
//!   key, CLUSTER …   ─► attach    ADD CONSTRAINT … USING INDEX;  misc: what follows in the same entry
//! INDEX ATTACH       ─► attach
//! STATISTICS, VIEW … ─► misc      and indexes on materialized views that come here
//! FK CONSTRAINT      ─► foreign_key NOT VALID, validate
//! the rest           ─► late;  identity ─► open;  EVENT TRIGGER ─► last
//! ```

use std::collections::HashSet;

use pg::{QualifiedName, quote_ident};

use super::Phase;
use super::lex::statements;
use super::pre_data::AlwaysColumn;
use super::sections::Entry;
use super::statement::{Constraint, Statement, read};

/// What an item is about, before it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Planned {
    pub phase: Phase,
    pub kind: String,
    pub schema: String,
    /// The table it belongs to, where it has one.
    pub table: Option<QualifiedName>,
    pub name: String,
    pub sql: String,
    /// An index that takes long to build.
    slow: bool,
}

/// What the plan depends on.
#[derive(Default)]
pub(super) struct Target {
    /// Partitioned tables: a constraint there takes no index that exists.
    pub partitioned: HashSet<QualifiedName>,
    /// All tables: a part of a database may have foreign keys to what is not in it.
    pub tables: HashSet<QualifiedName>,
    /// Those that get rows, where that is not all of them.
    pub fed: Option<HashSet<QualifiedName>>,
    /// `server_version_num / 10000`
    pub major: u32,
}

/// `left_out`: what has no place, in words.
pub(super) fn plan(
    entries: &[Entry],
    always: &[AlwaysColumn],
    target: &Target,
    left_out: &mut Vec<String>,
) -> Vec<Planned> {
    let mut planned: Vec<Planned> = Vec::new();
    // Relations that post-data itself makes: their indexes can't come before them.
    let mut made: HashSet<QualifiedName> = HashSet::new();
    let mut last = Phase::Misc;
    let mut orphan_before = false;
    for entry in entries {
        let first_of_entry = planned.len();
        // A comment goes with what it is about.
        let mut orphan = orphan_before && entry.kind == "COMMENT";
        for sql in statements(&entry.sql) {
            let statement = read(sql);
            if let Statement::CreateView { name, .. } = &statement {
                made.insert(name.clone());
            }
            if let Some(reason) = homeless(&statement, target) {
                left_out.push(format!(
                    "{} \"{}.{}\" {reason}",
                    entry.kind.to_lowercase(),
                    entry.schema,
                    entry.name
                ));
                orphan = true;
            }
            if orphan {
                continue;
            }
            let slow = is_slow(&statement);
            let first = planned.get(first_of_entry);
            let (follows, of) = (first.map(|item| item.phase), first.and_then(|item| item.table.clone()));
            for (phase, table, sql) in place(sql, statement, follows, last, &made, target) {
                planned.push(Planned {
                    phase,
                    kind: entry.kind.clone(),
                    schema: entry.schema.clone(),
                    table: table.or_else(|| of.clone()),
                    name: entry.name.clone(),
                    sql: format!("{}{sql};\n", entry.storage),
                    slow: slow && phase == Phase::Index,
                });
            }
        }
        orphan_before = orphan;
        if let Some(item) = planned.last() {
            last = item.phase;
        }
    }
    let identity = always.iter().map(|(table, column)| Planned {
        phase: Phase::Open,
        kind: "IDENTITY".to_owned(),
        schema: table.schema.clone(),
        table: Some(table.clone()),
        name: format!("{} {column}", table.name),
        sql: format!("ALTER TABLE {table} ALTER COLUMN {} SET GENERATED ALWAYS;\n", quote_ident(column)),
        slow: false,
    });
    planned.extend(identity);
    // What takes longest is begun first. Everything else keeps its order.
    planned.sort_by_key(|item| !item.slow);
    planned
}

fn is_slow(statement: &Statement) -> bool {
    matches!(statement, Statement::CreateIndex { method, .. } if !["btree", "hash", "brin"].contains(&method.as_str()))
}

/// Why a statement can't have a place on this target.
fn homeless(statement: &Statement, target: &Target) -> Option<String> {
    let Statement::AddConstraint { table, constraint, .. } = statement else { return None };
    let unfed = |name: &QualifiedName| target.fed.as_ref().is_some_and(|fed| !fed.contains(name));
    match constraint {
        Constraint::ForeignKey { to: Some(to), .. } if !target.tables.contains(to) => {
            Some(format!("is left out: the target has no table {to}"))
        }
        Constraint::ForeignKey { to: Some(to), .. } if unfed(to) || unfed(table) => {
            let which = if unfed(to) { to } else { table };
            Some(format!("is left out: table {which} is not published and stays empty"))
        }
        Constraint::NotNull { unproven: true } if target.major < 18 => {
            Some("is left out: the target's version can't have it NOT VALID".to_owned())
        }
        _ => None,
    }
}

type Placed = (Phase, Option<QualifiedName>, String);

/// `follows`: the phase of the entry's first statement, if this is another one; `last`: of the entry before.
fn place(
    sql: &str,
    statement: Statement,
    follows: Option<Phase>,
    last: Phase,
    made: &HashSet<QualifiedName>,
    target: &Target,
) -> Vec<Placed> {
    let one = |phase, table| vec![(phase, table, sql.to_owned())];
    match statement {
        Statement::CreateIndex { table, .. } if made.contains(&table) => one(Phase::Misc, Some(table)),
        Statement::CreateIndex { table, .. } => one(Phase::Index, Some(table)),
        Statement::AttachIndex => one(Phase::Attach, None),
        Statement::AddConstraint { table, only, name, constraint } => match constraint {
            Constraint::Key { primary, index, timing } if !target.partitioned.contains(&table) => {
                let quoted = quote_ident(&name);
                let what = if primary { "PRIMARY KEY" } else { "UNIQUE" };
                let create = format!("CREATE UNIQUE INDEX {quoted} ON {table} {index}");
                let add = format!(
                    "ALTER TABLE {table} ADD CONSTRAINT {quoted} {what} USING INDEX {quoted} {timing}"
                );
                vec![
                    (Phase::Index, Some(table.clone()), create),
                    (Phase::Attach, Some(table), add.trim_end().to_owned()),
                ]
            }
            Constraint::Key { .. } | Constraint::OtherIndex => one(Phase::Index, Some(table)),
            Constraint::ForeignKey { unproven: true, .. } => one(Phase::ForeignKey, Some(table)),
            // Before 18 NOT VALID is not to be had on a partitioned table (pg_dump alters it without ONLY), and towards one VALIDATE
            // leaves out the constraints of its partitions: made when the others are validated.
            Constraint::ForeignKey { to, .. }
                if target.major < 18
                    && (!only || to.as_ref().is_some_and(|to| target.partitioned.contains(to))) =>
            {
                one(Phase::Validate, Some(table))
            }
            Constraint::ForeignKey { .. } => {
                let validate = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {}", quote_ident(&name));
                vec![
                    (Phase::ForeignKey, Some(table.clone()), format!("{sql} NOT VALID")),
                    (Phase::Validate, Some(table), validate),
                ]
            }
            // The source's own rows may break it.
            Constraint::Other { unproven: true } | Constraint::NotNull { unproven: true } => {
                one(Phase::Late, Some(table))
            }
            Constraint::Other { unproven: false } | Constraint::NotNull { unproven: false } => {
                one(Phase::Misc, Some(table))
            }
        },
        Statement::AlterDomain { unproven } => one(if unproven { Phase::Late } else { Phase::Misc }, None),
        Statement::Active { table } => one(Phase::Late, table),
        Statement::EventTrigger => one(Phase::Last, None),
        Statement::Privileges { .. } => one(Phase::Late, None),
        // It stands behind what it is about.
        Statement::Comment { .. } => one(follows.unwrap_or(last).max(Phase::Misc).after(), None),
        // CLUSTER and the like behind an index, OWNER TO behind a view.
        _ => one(follows.unwrap_or(Phase::Misc).max(Phase::Misc), None),
    }
}

impl Phase {
    /// A comment on a foreign key can wait until the others do.
    fn after(self) -> Phase {
        match self {
            Phase::Misc | Phase::Last => self,
            _ => Phase::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sql: &str) -> Vec<(Phase, String)> {
        let root = QualifiedName::new("s", "root");
        let target = Target {
            partitioned: [root.clone()].into(),
            tables: [root, QualifiedName::new("s", "p")].into(),
            fed: None,
            major: 15,
        };
        let entry = |sql: &str| Entry {
            kind: "K".into(),
            schema: "s".into(),
            name: "n".into(),
            sql: sql.into(),
            storage: String::new(),
        };
        let entries: Vec<Entry> = sql.split("\n--\n").map(entry).collect();
        plan(&entries, &[], &target, &mut Vec::new())
            .into_iter()
            .map(|item| (item.phase, item.sql.trim().to_owned()))
            .collect()
    }

    #[test]
    fn keys_are_built_as_indexes_first() {
        assert_eq!(
            planned(
                "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k UNIQUE (a) INCLUDE (b) WITH (fillfactor='60') DEFERRABLE;\nALTER TABLE s.t CLUSTER ON k;"
            ),
            [
                (
                    Phase::Index,
                    "CREATE UNIQUE INDEX \"k\" ON \"s\".\"t\" (a) INCLUDE (b) WITH (fillfactor='60');"
                        .to_owned()
                ),
                (
                    Phase::Attach,
                    "ALTER TABLE \"s\".\"t\" ADD CONSTRAINT \"k\" UNIQUE USING INDEX \"k\" DEFERRABLE;"
                        .to_owned()
                ),
                (Phase::Misc, "ALTER TABLE s.t CLUSTER ON k;".to_owned()),
            ]
        );
        let root = "ALTER TABLE ONLY s.root ADD CONSTRAINT k PRIMARY KEY (a);";
        assert_eq!(planned(root), [(Phase::Index, root.to_owned())]);
    }

    #[test]
    fn slow_indexes_are_begun_first_and_the_rest_keeps_its_order() {
        let sql = "CREATE INDEX a ON s.p USING btree (a)\n--\nCREATE INDEX b ON s.p USING gin (b)\n--\nCREATE INDEX c ON s.p USING hash (c)\n--\nCREATE INDEX d ON s.p USING gist (d)";
        let names: Vec<char> = planned(sql).iter().filter_map(|(_, sql)| sql.chars().nth(13)).collect();
        assert_eq!(names, ['b', 'd', 'a', 'c']);
    }

    #[test]
    fn foreign_keys_are_validated_later() {
        assert_eq!(
            planned("ALTER TABLE ONLY s.t ADD CONSTRAINT \"f k\" FOREIGN KEY (x) REFERENCES s.p(id) DEFERRABLE;\n--\nCOMMENT ON CONSTRAINT \"f k\" ON s.t IS 'x';"),
            [
                (
                    Phase::ForeignKey,
                    "ALTER TABLE ONLY s.t ADD CONSTRAINT \"f k\" FOREIGN KEY (x) REFERENCES s.p(id) DEFERRABLE NOT VALID;".to_owned()
                ),
                (Phase::Validate, "ALTER TABLE \"s\".\"t\" VALIDATE CONSTRAINT \"f k\";".to_owned()),
                (Phase::Late, "COMMENT ON CONSTRAINT \"f k\" ON s.t IS 'x';".to_owned()),
            ]
        );
        let stays = "ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.p(id) NOT VALID;";
        assert_eq!(planned(stays), [(Phase::ForeignKey, stays.to_owned())]);
        let partitioned = "ALTER TABLE s.root ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.p(id);";
        assert_eq!(planned(partitioned), [(Phase::Validate, partitioned.to_owned())]);
        let to = "ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.root(id);";
        assert_eq!(planned(to), [(Phase::Validate, to.to_owned())]);
    }

    #[test]
    fn a_foreign_key_to_what_is_not_there_is_left_out() {
        let elsewhere = "ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.other(id);\n--\nCREATE STATISTICS s.x ON a, b FROM s.t;";
        assert_eq!(planned(elsewhere).len(), 1);
        assert_eq!(planned("ALTER TABLE s.t ADD CONSTRAINT n NOT NULL d NOT VALID;"), []);
    }

    #[test]
    fn everything_else_has_its_place() {
        for (sql, phase) in [
            ("ALTER INDEX s.a ATTACH PARTITION s.b;", Phase::Attach),
            ("CREATE STATISTICS s.x ON a, b FROM s.t;", Phase::Misc),
            ("CREATE OR REPLACE VIEW s.v AS SELECT 1;", Phase::Misc),
            ("CREATE RULE r AS ON DELETE TO s.t DO INSTEAD NOTHING;", Phase::Late),
            ("CREATE TRIGGER r BEFORE INSERT ON s.t EXECUTE FUNCTION s.f();", Phase::Late),
            ("ALTER TABLE s.t ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;", Phase::Late),
            ("ALTER TABLE s.t ADD CONSTRAINT c CHECK ((a > 0));", Phase::Misc),
            ("ALTER DOMAIN s.t ADD CONSTRAINT c CHECK ((VALUE > 0)) NOT VALID;", Phase::Late),
            ("ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;", Phase::Late),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE o GRANT SELECT ON TABLES TO r;", Phase::Late),
            ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION s.f();", Phase::Last),
        ] {
            assert_eq!(planned(sql), [(phase, sql.to_owned())]);
        }
        let view = "CREATE MATERIALIZED VIEW s.v AS SELECT 1 WITH NO DATA;\nALTER MATERIALIZED VIEW s.v OWNER TO o;\n--\nCREATE INDEX i ON s.v USING btree (a);\n--\nCOMMENT ON INDEX s.i IS 'x';";
        assert!(planned(view).iter().all(|(phase, _)| *phase == Phase::Misc), "{:?}", planned(view));
        let trigger = "CREATE TRIGGER r BEFORE INSERT ON s.t EXECUTE FUNCTION s.f();\nALTER TABLE s.t ENABLE ALWAYS TRIGGER r;\n--\nCOMMENT ON TRIGGER r ON s.t IS 'x';";
        assert!(planned(trigger).iter().all(|(phase, _)| *phase == Phase::Late));
    }
}
