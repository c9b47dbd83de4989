//! Sequences: the stream doesn't carry them. Read on the source when nobody can write there, set on the target, and looked at again.

use pg::{Error, QualifiedName, Result, quote_literal};
use tokio_postgres::{Client, Row};

/// A sequence's position: what `setval` takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SequenceState {
    pub name: QualifiedName,
    pub last_value: i64,
    pub is_called: bool,
}

/// A statement over more sequences than this gets slow to plan.
const BATCH: usize = 500;

const SELECTED: &str = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'S' AND c.relpersistence <> 't'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                       WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// Reads every sequence of the schemas: owned, identity and free-standing.
pub async fn read_sequences(source: &Client, schemas: &[String]) -> Result<Vec<SequenceState>> {
    let rows =
        source.query(&format!("{SELECTED} AND n.nspname = ANY ($1) ORDER BY 1, 2"), &[&schemas]).await?;
    read(source, rows.iter().map(qualified).collect()).await
}

/// Reads the sequences that the tables own or take defaults from. For a run that is about some tables only: other sequences of the same
/// names on the target are somebody else's.
pub async fn read_sequences_of(source: &Client, tables: &[QualifiedName]) -> Result<Vec<SequenceState>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let rows = source
        .query(
            &format!(
                "WITH RECURSIVE used AS (
                     SELECT t.oid FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
                     JOIN pg_catalog.pg_namespace s ON s.nspname = wanted.schema
                     JOIN pg_catalog.pg_class t ON t.relnamespace = s.oid AND t.relname = wanted.name
                   UNION
                     -- a partition's identity is its root's
                     SELECT i.inhparent FROM used JOIN pg_catalog.pg_inherits i ON i.inhrelid = used.oid
                 )
                 {SELECTED} AND c.oid IN (
                     SELECT d.objid FROM pg_catalog.pg_depend d JOIN used ON used.oid = d.refobjid
                     WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
                   UNION
                     SELECT d.refobjid FROM pg_catalog.pg_attrdef a JOIN used ON used.oid = a.adrelid
                     JOIN pg_catalog.pg_depend d ON d.objid = a.oid
                     WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
                 ORDER BY 1, 2"
            ),
            &[&schemas, &names],
        )
        .await?;
    read(source, rows.iter().map(qualified).collect()).await
}

fn qualified(row: &Row) -> QualifiedName {
    QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))
}

async fn read(client: &Client, names: Vec<QualifiedName>) -> Result<Vec<SequenceState>> {
    let mut states = Vec::with_capacity(names.len());
    for batch in names.chunks(BATCH) {
        let parts: Vec<String> = batch
            .iter()
            .enumerate()
            .map(|(at, name)| format!("SELECT {at}::int4, last_value, is_called FROM {name}"))
            .collect();
        for row in client.query(&parts.join(" UNION ALL "), &[]).await? {
            let at = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
            let name = batch.get(at).cloned();
            let name = name.ok_or_else(|| Error::failed("PROTOCOL", "a sequence's row does not add up"))?;
            states.push(SequenceState { name, last_value: row.get(1), is_called: row.get(2) });
        }
    }
    Ok(states)
}

/// Sets the sequences that the target has, and reads them back. Returns how many.
///
/// # Errors
/// A value outside of the target sequence's bounds; a sequence that somebody else moves at the same time.
pub async fn set_sequences(target: &Client, states: &[SequenceState]) -> Result<usize> {
    let mut set = 0;
    for batch in states.chunks(BATCH) {
        let there = present(target, batch).await?;
        if there.is_empty() {
            continue;
        }
        let calls: Vec<String> = there
            .iter()
            .map(|state| {
                format!(
                    "pg_catalog.setval({}::pg_catalog.regclass, {}, {})",
                    quote_literal(&state.name.to_string()),
                    state.last_value,
                    state.is_called
                )
            })
            .collect();
        target.batch_execute(&format!("SELECT {}", calls.join(", "))).await.map_err(
            |error| {
                Error::from(error).context("the target's sequences can't be set").hint(
                    "on the target: GRANT UPDATE on the sequence to the role of --target-admin, or ALTER SEQUENCE … MINVALUE … \
                     MAXVALUE … to the source's bounds",
                )
            },
        )?;
        let now = read(target, there.iter().map(|state| state.name.clone()).collect()).await?;
        if let Some(state) = there.iter().find(|state| !now.contains(state)) {
            return Err(Error::stop(
                "SEQUENCE_MOVED",
                format!("sequence {} of the target was moved by somebody else", state.name),
            )
            .hint("keep other sessions off the target until it is opened"));
        }
        set += there.len();
    }
    Ok(set)
}

async fn present(target: &Client, states: &[SequenceState]) -> Result<Vec<SequenceState>> {
    let names: Vec<String> = states.iter().map(|state| state.name.to_string()).collect();
    let rows = target
        .query(
            "SELECT name FROM unnest($1::text[]) AS name
             JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(name) AND c.relkind = 'S'",
            &[&names],
        )
        .await?;
    let there: std::collections::HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(states.iter().filter(|state| there.contains(&state.name.to_string())).cloned().collect())
}
