//! `--existing-schema`: are the tables and columns there, and may rows be written to them?

use std::collections::HashMap;

use pg::{QualifiedName, Result, Session, quote_ident};
use pipeline::copy::{ColumnShape, shapes_sql};
use pipeline::{
    COLUMN_NARROWER, ColumnType, Finding, Fit, ReplicaIdentity, Side, SourceFacts, TableSpec, some_of,
};
use tokio_postgres::Row;

use crate::catalog::{self, Identity, Table};

/// `resumes`: the run is on the record; what it lacks it waits for, so it is no reason to refuse. `stream`: changes follow
/// the copy.
pub(super) async fn check(
    session: &Session,
    user: &str,
    source: &SourceFacts,
    names: &[QualifiedName],
    resumes: bool,
    stream: bool,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let tables = catalog::look(session, names).await?;
    let (mut missing, mut columns) = (Vec::new(), Vec::new());
    let mut there: Vec<(&TableSpec, &Table)> = Vec::new();
    for spec in &source.tables {
        match tables.get(&spec.name).filter(|table| table.takes_rows()) {
            None => missing.push(spec),
            Some(table) => {
                there.push((spec, table));
                for column in spec.columns.iter().filter(|column| table.column(&column.name).is_none()) {
                    columns.push(format!(
                        "ALTER TABLE {} ADD COLUMN {} {};",
                        spec.name,
                        quote_ident(&column.name),
                        column.formatted
                    ));
                }
                needs_default(spec, table, findings);
            }
        }
    }
    let severity = |side, code, text: String| {
        if resumes { Finding::warning(side, code, text) } else { Finding::refuse(side, code, text) }
    };
    if !missing.is_empty() {
        let names: Vec<&QualifiedName> = missing.iter().map(|spec| &spec.name).collect();
        let create: Vec<String> = missing.iter().map(|spec| create_table(spec)).collect();
        findings.push(
            severity(
                Side::Target,
                "TABLE_MISSING",
                format!("{} table(s) are missing on the target", missing.len()),
            )
            .detail(some_of(&names))
            .fix(create.join("\n")),
        );
    }
    if !columns.is_empty() {
        findings.push(
            severity(
                Side::Target,
                "COLUMN_MISSING",
                format!("{} column(s) are missing on the target", columns.len()),
            )
            .fix(columns.join("\n")),
        );
    }
    may_write(user, &there, &severity, findings);
    if stream {
        identity_always(&there, findings);
    }
    surprises(&there, findings);
    narrower(session, &there, findings).await
}

/// Columns in which a value of the source may not be kept whole: such a value stops the run, those that fit are taken.
async fn narrower(
    session: &Session,
    tables: &[(&TableSpec, &Table)],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let oids: Vec<u32> = tables.iter().map(|(_, table)| table.oid).collect();
    let mut shapes = HashMap::<u32, Vec<ColumnShape>>::new();
    for group in oids.chunks(1000) {
        let rows = session.query(&shapes_sql(group), &[]).await?;
        let text = |row: &Row| (0..row.len()).map(|at| row.get(at)).collect();
        for (oid, shape) in ColumnShape::from_rows(rows.iter().map(text).collect()) {
            shapes.entry(oid).or_default().push(shape);
        }
    }
    let (mut columns, mut statements) = (Vec::new(), Vec::new());
    for (spec, table) in tables {
        let name = &spec.name;
        let here = shapes.get(&table.oid).map(Vec::as_slice).unwrap_or_default();
        for column in &spec.columns {
            let there = ColumnType::of_stream(column.type_oid, column.type_modifier);
            let shape = here.iter().find(|shape| shape.name == column.name);
            if shape.and_then(|shape| Fit::of(there, shape.of)).is_some() {
                let quoted = quote_ident(&column.name);
                statements
                    .push(format!("ALTER TABLE {name} ALTER COLUMN {quoted} TYPE {};", column.formatted));
                columns.push(format!("{quoted} of {name}"));
            }
        }
    }
    if !columns.is_empty() {
        findings.push(
            Finding::warning(
                Side::Target,
                COLUMN_NARROWER,
                format!(
                    "{} column(s) are narrower on the target: a value of which they would lose a part stops the run",
                    columns.len()
                ),
            )
            .detail(some_of(&columns))
            .fix(statements.join("\n")),
        );
    }
    Ok(())
}

/// Identity columns that take a value on INSERT, but that no UPDATE can set (428C9).
fn identity_always(tables: &[(&TableSpec, &Table)], findings: &mut Vec<Finding>) {
    let mut statements = Vec::new();
    let updated = |spec: &TableSpec| spec.streamed && spec.identity != ReplicaIdentity::Nothing;
    for (spec, table) in tables.iter().filter(|(spec, _)| updated(spec)) {
        let always =
            |name: &str| table.column(name).is_some_and(|column| column.identity == Some(Identity::Always));
        for column in spec.columns.iter().filter(|column| always(&column.name)) {
            statements.push(format!(
                "ALTER TABLE {} ALTER COLUMN {} SET GENERATED BY DEFAULT;",
                spec.name,
                quote_ident(&column.name)
            ));
        }
    }
    if !statements.is_empty() {
        findings.push(
            Finding::warning(
                Side::Target,
                "IDENTITY_ALWAYS",
                format!(
                    "{} identity column(s) that the source feeds are GENERATED ALWAYS on the target: an update can't set them",
                    statements.len()
                ),
            )
            .detail("SET GENERATED ALWAYS makes them as they were, after the cutover")
            .fix(statements.join("\n")),
        );
    }
}

/// What works and is not what somebody expects.
fn surprises(tables: &[(&TableSpec, &Table)], findings: &mut Vec<Finding>) {
    let mut slow = Vec::new();
    let mut index = Vec::new();
    for (spec, table) in tables.iter().filter(|(spec, _)| spec.streamed && !spec.key.is_empty()) {
        // A partitioned table's own list has no index of its partitions.
        if table.kind == 'r' && !table.finds_by(&spec.key) {
            let key: Vec<String> = spec.key.iter().map(|column| quote_ident(column)).collect();
            index.push(format!("CREATE INDEX ON {} ({});", spec.name, key.join(", ")));
            slow.push(&spec.name);
        }
    }
    if !slow.is_empty() {
        findings.push(
            Finding::warning(
                Side::Target,
                "KEY_INDEX",
                format!(
                    "{} table(s) have no index on their key: every update and delete reads the whole table",
                    slow.len()
                ),
            )
            .detail(some_of(&slow))
            .fix(index.join("\n")),
        );
    }
    let firing: Vec<String> = tables
        .iter()
        .flat_map(|(spec, table)| {
            table.firing_triggers.iter().map(|trigger| format!("{} on {}", quote_ident(trigger), spec.name))
        })
        .collect();
    if !firing.is_empty() {
        findings.push(
            Finding::note(
                Side::Target,
                "TRIGGERS_FIRE",
                "triggers that are enabled REPLICA or ALWAYS fire for replicated changes",
            )
            .detail(some_of(&firing)),
        );
    }
}

/// A column that only the target has must fill itself.
fn needs_default(spec: &TableSpec, table: &Table, findings: &mut Vec<Finding>) {
    for column in &table.columns {
        let fed = spec.columns.iter().any(|ours| ours.name == column.name);
        if !fed && column.not_null && !column.has_default && !column.generated && column.identity.is_none() {
            let name = quote_ident(&column.name);
            findings.push(
                Finding::warning(
                    Side::Target,
                    "COLUMN_NOT_NULL",
                    format!("column {name} of table {} is NOT NULL on the target without a default, and nothing feeds it", spec.name),
                )
                .fix(format!("ALTER TABLE {} ALTER COLUMN {name} SET DEFAULT …; or DROP NOT NULL", spec.name)),
            );
        }
    }
}

fn may_write(
    user: &str,
    tables: &[(&TableSpec, &Table)],
    severity: &dyn Fn(Side, &'static str, String) -> Finding,
    findings: &mut Vec<Finding>,
) {
    let role = quote_ident(user);
    let lacking = |test: &dyn Fn(&Table) -> bool| -> Vec<&QualifiedName> {
        tables.iter().filter(|(_, table)| test(table)).map(|(spec, _)| &spec.name).collect()
    };
    let list =
        |names: &[&QualifiedName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut schemas: Vec<String> =
        lacking(&|t| !t.privileges.usage).iter().map(|name| quote_ident(&name.schema)).collect();
    schemas.sort();
    schemas.dedup();
    let insert = lacking(&|t| !t.privileges.insert);
    if !insert.is_empty() || !schemas.is_empty() {
        let mut fix = Vec::new();
        if !schemas.is_empty() {
            fix.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", schemas.join(", ")));
        }
        if !insert.is_empty() {
            fix.push(format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLE {} TO {role};",
                list(&insert)
            ));
        }
        findings.push(
            severity(
                Side::Target,
                "WRITE_PRIVILEGE",
                format!(
                    "role {role} may not insert into {} table(s) of the target",
                    insert.len().max(schemas.len())
                ),
            )
            .detail(if insert.is_empty() { some_of(&schemas) } else { some_of(&insert) })
            .fix(fix.join("\n")),
        );
    }
    let partly = lacking(&|t| {
        let p = t.privileges;
        p.insert && !(p.select && p.update && p.delete && p.truncate)
    });
    if !partly.is_empty() {
        findings.push(
            Finding::warning(
                Side::Target,
                "WRITE_PRIVILEGE",
                format!("role {role} may insert into {} table(s), but not change every row of them: the run stops at the first such change", partly.len()),
            )
            .detail(some_of(&partly))
            .fix(format!("GRANT SELECT, UPDATE, DELETE, TRUNCATE ON TABLE {} TO {role}", list(&partly))),
        );
    }
    let secured = lacking(&|t| t.privileges.row_security);
    if !secured.is_empty() {
        findings.push(
            severity(
                Side::Target,
                "ROW_SECURITY",
                format!(
                    "row security of {} table(s) applies to role {role}: writing to them fails",
                    secured.len()
                ),
            )
            .detail(some_of(&secured))
            .fix(format!("ALTER ROLE {role} BYPASSRLS")),
        );
    }
}

fn create_table(spec: &TableSpec) -> String {
    let mut columns: Vec<String> = spec
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quote_ident(&column.name), column.formatted)
        })
        .collect();
    if !spec.key.is_empty() {
        let key: Vec<String> = spec.key.iter().map(|column| quote_ident(column)).collect();
        columns.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} ({});", spec.name, columns.join(", "))
}
