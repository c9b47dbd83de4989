//! The tables of a run and where each stands.

use std::fmt;

use pg::{Error, Lsn, QualifiedName, Result};
use pipeline::TableSpec;
use tokio_postgres::{Client, GenericClient};

/// What has happened to one table. The LSNs stand beside it in [`RunTable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum TableState {
    /// To be copied; the target's table holds nothing of ours.
    Pending,
    /// Some of its rows may be there: a restart empties it (only where walferry made it).
    Copying,
    /// To be copied again: what it holds stays until the transaction that brings all of its rows anew.
    Again,
    /// All rows as of its copied-at LSN are committed.
    Copied,
    /// Its indexes are there too, or it was never to be copied.
    Ready,
    /// No longer published: changes committed before its left-at LSN are still applied.
    Left,
}

impl TableState {
    const NAMES: [(TableState, &'static str); 6] = [
        (TableState::Pending, "pending"),
        (TableState::Copying, "copying"),
        (TableState::Again, "again"),
        (TableState::Copied, "copied"),
        (TableState::Ready, "ready"),
        (TableState::Left, "left"),
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// Its rows are still to come.
    #[must_use]
    pub fn to_copy(self) -> bool {
        matches!(self, TableState::Pending | TableState::Copying | TableState::Again)
    }

    pub fn parse(text: &str) -> Result<TableState> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(state, _)| *state).ok_or_else(|| {
            Error::refuse("RUN_UNREADABLE", format!("unknown table state \"{text}\" in walferry.tables"))
        })
    }
}

impl fmt::Display for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One row of `walferry.tables`.
#[derive(Clone, Debug)]
pub struct RunTable {
    pub name: QualifiedName,
    pub state: TableState,
    /// A change is applied iff its commit LSN is at or past this.
    pub copied_at: Option<Lsn>,
    pub left_at: Option<Lsn>,
    pub rows: i64,
    pub bytes: i64,
    /// Made by walferry: may be emptied when a copy has to start over.
    pub created: bool,
    /// What it was copied by. None: another connector feeds it, and its source is not looked at.
    pub spec: Option<TableSpec>,
}

/// Tables that are recorded at once.
const AT_ONCE: usize = 1000;

impl RunTable {
    pub async fn all(client: &Client, run: &str) -> Result<Vec<RunTable>> {
        let rows = client
            .query(
                "SELECT schema, name, state, copied_at_lsn::text, left_at_lsn::text, rows, bytes, created, \
                        nullif(spec, '{}')::text \
                 FROM walferry.tables WHERE run = $1 ORDER BY schema COLLATE \"C\", name COLLATE \"C\"",
                &[&run],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
                let spec = row.get::<_, Option<&str>>(8).map(serde_json::from_str).transpose();
                let spec = spec.map_err(|error| unreadable(&name, &error))?;
                Ok(RunTable {
                    name,
                    state: TableState::parse(row.get(2))?,
                    copied_at: super::run::lsn_opt(row.get(3))?,
                    left_at: super::run::lsn_opt(row.get(4))?,
                    rows: row.get(5),
                    bytes: row.get(6),
                    created: row.get(7),
                    spec,
                })
            })
            .collect()
    }

    /// What it was copied by.
    ///
    /// # Errors
    /// It was never looked at on its source.
    pub fn spec(&self) -> Result<&TableSpec> {
        self.spec.as_ref().ok_or_else(|| unreadable(&self.name, &"it has no description of the source"))
    }

    /// Writes the row as it is, over an older one of the same name.
    pub async fn store(&self, client: &impl GenericClient, run: &str) -> Result<()> {
        RunTable::store_all(std::slice::from_ref(self), client, run).await
    }

    /// The same for many tables, [`AT_ONCE`] a round trip.
    pub async fn store_all(tables: &[RunTable], client: &impl GenericClient, run: &str) -> Result<()> {
        let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.to_string());
        for tables in tables.chunks(AT_ONCE) {
            let specs = tables.iter().map(|table| match &table.spec {
                Some(spec) => json(spec),
                None => Ok(serde_json::json!({})),
            });
            let specs = specs.collect::<Result<Vec<_>>>()?;
            let schemas: Vec<&str> = tables.iter().map(|table| table.name.schema.as_str()).collect();
            let names: Vec<&str> = tables.iter().map(|table| table.name.name.as_str()).collect();
            let states: Vec<&str> = tables.iter().map(|table| table.state.as_str()).collect();
            let copied_at: Vec<Option<String>> = tables.iter().map(|table| lsn(table.copied_at)).collect();
            let left_at: Vec<Option<String>> = tables.iter().map(|table| lsn(table.left_at)).collect();
            let rows: Vec<i64> = tables.iter().map(|table| table.rows).collect();
            let bytes: Vec<i64> = tables.iter().map(|table| table.bytes).collect();
            let created: Vec<bool> = tables.iter().map(|table| table.created).collect();
            client
                .execute(
                    "INSERT INTO walferry.tables (run, schema, name, state, copied_at_lsn, left_at_lsn, rows, bytes, created, spec) \
                     SELECT $1, t.schema, t.name, t.state, t.copied_at::pg_catalog.pg_lsn, t.left_at::pg_catalog.pg_lsn, \
                            t.rows, t.bytes, t.created, t.spec \
                       FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), \
                                       pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::int8[]), \
                                       pg_catalog.unnest($8::int8[]), pg_catalog.unnest($9::bool[]), pg_catalog.unnest($10::jsonb[])) \
                         AS t (schema, name, state, copied_at, left_at, rows, bytes, created, spec) \
                     ON CONFLICT (run, schema, name) DO UPDATE SET state = excluded.state, \
                       copied_at_lsn = excluded.copied_at_lsn, left_at_lsn = excluded.left_at_lsn, rows = excluded.rows, \
                       bytes = excluded.bytes, created = excluded.created, spec = excluded.spec",
                    &[&run, &schemas, &names, &states, &copied_at, &left_at, &rows, &bytes, &created, &specs],
                )
                .await?;
        }
        Ok(())
    }

    /// The source's description alone; whatever else has happened to the record stays.
    pub async fn set_spec(client: &impl GenericClient, run: &str, spec: &TableSpec) -> Result<()> {
        let sql = "UPDATE walferry.tables SET spec = $4 WHERE run = $1 AND schema = $2 AND name = $3";
        client.execute(sql, &[&run, &spec.name.schema, &spec.name.name, &json(spec)?]).await?;
        Ok(())
    }

    /// The tables that are copied have their indexes too.
    pub async fn set_ready(client: &impl GenericClient, run: &str) -> Result<()> {
        let sql = "UPDATE walferry.tables SET state = $3 WHERE run = $1 AND state = $2";
        client.execute(sql, &[&run, &TableState::Copied.as_str(), &TableState::Ready.as_str()]).await?;
        Ok(())
    }

    /// The statement that goes into the transaction which makes the table's last rows visible.
    #[must_use]
    pub fn copied_sql(run: &str, name: &QualifiedName, copied_at: Lsn, rows: u64, bytes: u64) -> String {
        format!(
            "UPDATE walferry.tables SET state = 'copied', copied_at_lsn = '{copied_at}', rows = {rows}, bytes = {bytes} \
             WHERE run = {} AND schema = {} AND name = {}",
            pg::quote_literal(run),
            pg::quote_literal(&name.schema),
            pg::quote_literal(&name.name)
        )
    }

    pub async fn forget(client: &impl GenericClient, run: &str, name: &QualifiedName) -> Result<()> {
        client
            .execute(
                "DELETE FROM walferry.tables WHERE run = $1 AND schema = $2 AND name = $3",
                &[&run, &name.schema, &name.name],
            )
            .await?;
        Ok(())
    }
}

fn unreadable(name: &QualifiedName, why: &dyn fmt::Display) -> Error {
    Error::refuse("RUN_UNREADABLE", format!("table {name} can't be read from the record: {why}"))
}

fn json(spec: &TableSpec) -> Result<serde_json::Value> {
    serde_json::to_value(spec)
        .map_err(|error| Error::failed("RECORD", format!("table {} can't be recorded: {error}", spec.name)))
}
