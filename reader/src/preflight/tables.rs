//! The tables that a run would move: which they are, what can't be streamed of them, and what is beside them.

use pg::{QualifiedName, Result, Session};
use pipeline::{Finding, Side, SourceFacts, TableSpec, some_of};

use super::SourceOptions;
use crate::catalog::{
    PublicationState, PublishedTable, Selection, Without, is_keyless, plan_own, published, selected,
};

pub(super) async fn check(
    session: &Session,
    options: &SourceOptions,
    facts: &mut SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if options.publications.is_empty() {
        facts.tables = selected(session, &options.selection).await?;
        own(session, options, facts, findings).await?;
    } else {
        let state = match PublicationState::read(session, &options.publications).await {
            Ok(state) => state,
            Err(error) => {
                findings.push(Finding::from_error(Side::Source, &error));
                return Ok(());
            }
        };
        facts.tables = published(session, &state.tables).await?;
        followed(&state, facts, findings);
        if options.schema {
            unpublished(session, facts, findings).await?;
        }
    }
    patterns(session, &options.selection, findings).await?;
    locks(session, facts, findings).await?;
    let bytes: u64 = facts.tables.iter().map(|table| table.bytes).sum();
    findings.push(Finding::note(
        Side::Source,
        "SIZE",
        format!("{} table(s), {} MB without indexes", facts.tables.len(), bytes.div_ceil(1024 * 1024)),
    ));
    beside(session, options, facts, findings).await
}

/// The whole schema is restored; what the publications don't name gets no rows.
async fn unpublished(session: &Session, facts: &SourceFacts, findings: &mut Vec<Finding>) -> Result<()> {
    let all = selected(session, &Selection::default()).await?;
    let empty: Vec<QualifiedName> = all
        .into_iter()
        .filter(|table| !facts.tables.iter().any(|fed| fed.files.contains_key(&table.oid)))
        .map(|table| table.name)
        .collect();
    if !empty.is_empty() {
        findings.push(
            Finding::warning(
                Side::Source,
                "NOT_PUBLISHED",
                format!(
                    "{} table(s) are in none of the publications: they are made on the target and stay empty, and foreign keys from and to \
                     them are left out",
                    empty.len()
                ),
            )
            .detail(some_of(&empty))
            .fix("ALTER PUBLICATION … ADD TABLE …; or restore what is wanted yourself, and --existing-schema"),
        );
    }
    Ok(())
}

async fn own(
    session: &Session,
    options: &SourceOptions,
    facts: &mut SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if facts.tables.is_empty() {
        findings.push(
            Finding::refuse(Side::Source, "NO_TABLES", "the selection matches no table on the source")
                .fix("see --schema, --table and their --exclude forms; a name without schema is looked up in search_path"),
        );
        return Ok(());
    }
    let rows = session
        .query(
            "SELECT pubname FROM pg_catalog.pg_publication WHERE pubname IN ($1, $2)",
            &[&options.name, &format!("{}_inserts", options.name)],
        )
        .await?;
    facts.own_publications = rows.iter().map(|row| row.get(0)).collect();
    if !options.stream {
        return Ok(());
    }
    let plan = plan_own(session, &options.name, &facts.tables, options.keyless).await?;
    if plan.keyless.is_empty() {
        return Ok(());
    }
    let names: Vec<&QualifiedName> = plan.keyless.iter().map(|table| &table.name).collect();
    let text = format!("{} table(s) have no primary key and no other replica identity", names.len());
    let list = some_of(&names);
    findings.push(match options.keyless {
        Without::Refuse => {
            let full: Vec<String> = plan.keyless.iter().map(|table| format!("{};", table.set_full())).collect();
            Finding::refuse(Side::Source, "NO_IDENTITY", text).detail(list).fix(format!(
                "ALTER TABLE … ADD PRIMARY KEY (…); or take a unique index of NOT NULL columns: ALTER TABLE … REPLICA IDENTITY USING \
                 INDEX …; or, slower and with more WAL:\n{}\n(--keyless full does that, and walferry clean sets it back); or --keyless \
                 inserts: their updates and deletes are then not replicated",
                full.join("\n")
            ))
        }
        Without::Full => Finding::warning(
            Side::Source,
            "NO_IDENTITY",
            format!("{text}: --keyless full sets REPLICA IDENTITY FULL on them, and walferry clean sets it back"),
        )
        .detail(list),
        Without::Inserts => Finding::warning(
            Side::Source,
            "NO_IDENTITY",
            format!("{text}: with --keyless inserts their updates and deletes are not replicated"),
        )
        .detail(list),
    });
    Ok(())
}

/// Existing publications.
fn followed(state: &PublicationState, facts: &SourceFacts, findings: &mut Vec<Finding>) {
    if state.tables.is_empty() {
        findings.push(Finding::warning(Side::Source, "NO_TABLES", "the publications hold no table yet"));
    }
    let published = |table: &TableSpec| -> Option<&PublishedTable> { state.table(&table.name) };
    let keyless: Vec<&QualifiedName> = facts
        .tables
        .iter()
        .filter(|table| is_keyless(table))
        .filter(|table| published(table).is_some_and(|p| p.actions.update || p.actions.delete))
        .map(|table| &table.name)
        .collect();
    if let Some(first) = keyless.first() {
        findings.push(
            Finding::warning(
                Side::Source,
                "NO_IDENTITY",
                format!("{} published table(s) have no replica identity: the source itself refuses to update or delete their rows", keyless.len()),
            )
            .detail(some_of(&keyless))
            .fix(format!("give each a primary key, or ALTER TABLE {first} REPLICA IDENTITY FULL")),
        );
    }
    let partial: Vec<String> = state
        .tables
        .iter()
        .filter_map(|table| {
            let actions = table.actions;
            let missing: Vec<&str> = [
                ("insert", actions.insert),
                ("update", actions.update),
                ("delete", actions.delete),
                ("truncate", actions.truncate || facts.version < 110_000),
            ]
            .iter()
            .filter(|(_, published)| !published)
            .map(|(action, _)| *action)
            .collect();
            (!missing.is_empty()).then(|| format!("{} (no {})", table.name, missing.join(", ")))
        })
        .collect();
    if !partial.is_empty() {
        findings.push(
            Finding::note(Side::Source, "PUBLISHED_ACTIONS", "not every kind of change is published")
                .detail(some_of(&partial)),
        );
    }
}

/// Patterns that match nothing are usually typing errors.
async fn patterns(session: &Session, selection: &Selection, findings: &mut Vec<Finding>) -> Result<()> {
    let alone = |schemas: &[&String], tables: &[&String]| Selection {
        schemas: schemas.iter().map(|text| (*text).clone()).collect(),
        tables: tables.iter().map(|text| (*text).clone()).collect(),
        ..Selection::default()
    };
    let options = selection.schemas.iter().map(|pattern| ("--schema", pattern, alone(&[pattern], &[])));
    let tables = selection.tables.iter().map(|pattern| ("--table", pattern, alone(&[], &[pattern])));
    for (option, pattern, alone) in options.chain(tables) {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {})",
            alone.condition(session).await?
        );
        if !session.query_one(&sql, &[]).await?.get::<_, bool>(0) {
            findings.push(
                Finding::warning(Side::Source, "PATTERN_UNMATCHED", format!("{option} {pattern} matches nothing"))
                    .fix("names are folded to lower case unless in double quotes; schema and table are separated by a dot"),
            );
        }
    }
    Ok(())
}

/// The keeper, pg_dump and a cutover's fence each lock every table at once.
async fn locks(session: &Session, facts: &SourceFacts, findings: &mut Vec<Finding>) -> Result<()> {
    let row = session
        .query_one(
            "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8,
                    pg_catalog.current_setting('max_connections')::int8 + pg_catalog.current_setting('max_prepared_transactions')::int8",
            &[],
        )
        .await?;
    let (each, sessions): (i64, i64) = (row.get(0), row.get(1));
    let needed = facts.tables.len() as i64 * 2 + 100;
    if needed > each * sessions {
        findings.push(
            Finding::refuse(
                Side::Source,
                "LOCK_TABLE",
                format!(
                    "the lock table of the source has room for {} locks; {} tables need about {needed} at once",
                    each * sessions,
                    facts.tables.len()
                ),
            )
            .fix(format!(
                "ALTER SYSTEM SET max_locks_per_transaction = {}; then restart the source",
                (needed / sessions.max(1) + 1).max(each * 2)
            )),
        );
    }
    Ok(())
}

/// What is not in the stream, or not in the copy either.
async fn beside(
    session: &Session,
    options: &SourceOptions,
    facts: &SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let unlogged: Vec<&QualifiedName> =
        facts.tables.iter().filter(|table| !table.streamed).map(|table| &table.name).collect();
    if !unlogged.is_empty() && options.stream {
        findings.push(
            Finding::note(
                Side::Source,
                "UNLOGGED",
                format!("{} unlogged table(s) are copied once and not kept fed", unlogged.len()),
            )
            .detail(some_of(&unlogged))
            .fix(format!("ALTER TABLE {} SET LOGGED", unlogged[0])),
        );
    }
    let major = session.version().major();
    if major < 13 && facts.tables.iter().any(|table| !table.partitioned) {
        let leaves = super::texts(
            session,
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relispartition AND c.oid = ANY ($1) ORDER BY 1",
            &[&facts.tables.iter().map(|table| table.oid).collect::<Vec<u32>>()],
        )
        .await?;
        if !leaves.is_empty() && options.stream {
            findings.push(
                Finding::note(
                    Side::Source,
                    "PARTITIONS",
                    format!("PostgreSQL {major} publishes partitions one by one: one that is added later joins by walferry refresh"),
                )
                .detail(some_of(&leaves)),
            );
        }
    }
    if major >= 12 {
        let oids: Vec<u32> = facts.tables.iter().map(|table| table.oid).collect();
        let generated = super::texts(
            session,
            "SELECT pg_catalog.format('%I.%I.%I', n.nspname, c.relname, a.attname) FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = ANY ($1) AND a.attgenerated <> '' AND NOT a.attisdropped ORDER BY 1",
            &[&oids],
        )
        .await?;
        if !generated.is_empty() {
            findings.push(
                Finding::note(
                    Side::Source,
                    "GENERATED_COLUMNS",
                    "generated columns are computed by the target itself",
                )
                .detail(some_of(&generated)),
            );
        }
    }
    if options.publications.is_empty() {
        others(session, options, findings).await?;
    }
    Ok(())
}

async fn others(session: &Session, options: &SourceOptions, findings: &mut Vec<Finding>) -> Result<()> {
    let condition = options.selection.condition(session).await?;
    for (kind, code, text) in [
        ("f", "FOREIGN_TABLES", "foreign tables: their definition is taken along, their rows are not"),
        (
            "m",
            "MATERIALIZED_VIEWS",
            "materialized views are made anew on the target: at the end of the copy and at the cutover",
        ),
    ] {
        let names = super::texts(
            session,
            &format!(
                "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = '{kind}' AND {condition} ORDER BY 1"
            ),
            &[],
        )
        .await?;
        if !names.is_empty() {
            findings.push(Finding::note(Side::Source, code, text).detail(some_of(&names)));
        }
    }
    if options.selection.is_partial() {
        return Ok(());
    }
    let objects: i64 =
        session.query_one("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata", &[]).await?.get(0);
    if objects > 0 {
        findings.push(
            Finding::warning(Side::Source, "LARGE_OBJECTS", format!("{objects} large object(s) are not moved: they are not in the stream"))
                .fix("move them with the application stopped: pg_dump -b --data-only --exclude-table='*.*' SOURCE | psql TARGET"),
        );
    }
    let config = super::texts(
        session,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_extension e
         JOIN pg_catalog.pg_class c ON c.oid = ANY (e.extconfig) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') ORDER BY 1",
        &[],
    )
    .await?;
    if !config.is_empty() {
        findings.push(
            Finding::warning(
                Side::Source,
                "EXTENSION_TABLES",
                "rows that were added to configuration tables of extensions are not moved",
            )
            .detail(some_of(&config))
            .fix(
                "compare these tables after the copy, and copy added rows by hand: COPY (SELECT …) TO STDOUT",
            ),
        );
    }
    Ok(())
}
