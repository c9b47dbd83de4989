//! Several processes that share one run's tables.
//!
//! The process with the run's lock leads: it gathers where everybody stands, hands the tables out anew, and records both in one
//! transaction. Everybody else has progress rows of his own, under `<run>#<id>`, and is kept from committing after a hand-over by the same
//! means as an old process of a run: the leader's row has taken the place of his next one.

use pg::{Error, Lsn, QualifiedName, Result};
use serde_json::Value;
use tokio_postgres::{Client, GenericClient};

use super::{Carrier, FENCED, Progress, StatusError};

const TABLES: &str = r"
CREATE TABLE IF NOT EXISTS walferry.shards (
    run text NOT NULL,
    id text NOT NULL,
    generation bigint NOT NULL DEFAULT 0,
    patterns text[] NOT NULL DEFAULT '{}',
    error jsonb,
    PRIMARY KEY (run, id)
);
CREATE TABLE IF NOT EXISTS walferry.shard_tables (
    run text NOT NULL,
    schema text NOT NULL,
    name text NOT NULL,
    shard text NOT NULL,
    from_lsn pg_lsn NOT NULL,
    PRIMARY KEY (run, schema, name)
);";

const LOCK: &str = "pg_catalog.hashtextextended('walferry shard ' || $1::text || '#' || $2::text, 0)";

/// A process that helps.
#[derive(Clone, Debug)]
pub struct Shard {
    pub id: String,
    /// Of the hand-over that it has tables from; 0: none yet.
    pub generation: i64,
    /// Tables that it asks for; empty: whichever.
    pub patterns: Vec<String>,
    pub error: Option<StatusError>,
}

/// Who feeds a table, and from where on: everything of it that was committed before is applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assigned {
    pub name: QualifiedName,
    /// Empty: the process that has the run's lock.
    pub shard: String,
    pub from: Lsn,
}

impl Shard {
    /// Are there tables for it? Schema `walferry` may be older.
    pub async fn exist(client: &Client) -> Result<bool> {
        let row = client
            .query_one("SELECT pg_catalog.to_regclass('walferry.shard_tables') IS NOT NULL", &[])
            .await?;
        Ok(row.get(0))
    }

    pub async fn ensure(client: &Client) -> Result<()> {
        if Self::exist(client).await? {
            return Ok(());
        }
        client
            .batch_execute(&format!(
                "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(8390876155245171571); {TABLES} COMMIT"
            ))
            .await?;
        Ok(())
    }

    /// The run of its progress rows.
    #[must_use]
    pub fn key(run: &str, id: &str) -> String {
        format!("{run}#{id}")
    }

    /// Takes part, for as long as this session lives.
    pub async fn register(client: &Client, run: &str, id: &str, patterns: &[String]) -> Result<()> {
        client.execute(&format!("SELECT pg_catalog.pg_advisory_lock({LOCK})"), &[&run, &id]).await?;
        client
            .execute(
                "INSERT INTO walferry.shards (run, id, patterns) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                &[&run, &id, &patterns],
            )
            .await?;
        Ok(())
    }

    /// Does its session live?
    pub async fn lives(client: &Client, run: &str, id: &str) -> Result<bool> {
        let sql = format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK})");
        let free: bool = client.query_one(&sql, &[&run, &id]).await?.get(0);
        if free {
            client.execute(&format!("SELECT pg_catalog.pg_advisory_unlock({LOCK})"), &[&run, &id]).await?;
        }
        Ok(!free)
    }

    pub async fn all(client: &impl GenericClient, run: &str) -> Result<Vec<Shard>> {
        let rows = client
            .query(
                "SELECT id, generation, patterns, error FROM walferry.shards WHERE run = $1 ORDER BY id",
                &[&run],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| Shard {
                id: row.get(0),
                generation: row.get(1),
                patterns: row.get(2),
                error: row.get::<_, Option<Value>>(3).and_then(|error| serde_json::from_value(error).ok()),
            })
            .collect())
    }

    pub async fn read(client: &Client, run: &str, id: &str) -> Result<Option<Shard>> {
        Ok(Self::all(client, run).await?.into_iter().find(|shard| shard.id == id))
    }

    pub async fn set_generation(
        client: &impl GenericClient,
        run: &str,
        id: &str,
        generation: i64,
    ) -> Result<()> {
        let sql = "UPDATE walferry.shards SET generation = $3 WHERE run = $1 AND id = $2";
        client.execute(sql, &[&run, &id, &generation]).await?;
        Ok(())
    }

    pub async fn set_error(client: &Client, run: &str, id: &str, error: Option<&StatusError>) -> Result<()> {
        let error = error.and_then(|error| serde_json::to_value(error).ok());
        let sql = "UPDATE walferry.shards SET error = $3 WHERE run = $1 AND id = $2";
        client.execute(sql, &[&run, &id, &error]).await?;
        Ok(())
    }

    pub async fn forget(client: &impl GenericClient, run: &str, id: &str) -> Result<()> {
        client.execute("DELETE FROM walferry.shards WHERE run = $1 AND id = $2", &[&run, &id]).await?;
        let key = Self::key(run, id);
        client.execute("DELETE FROM walferry.progress WHERE run = $1", &[&key]).await?;
        Ok(())
    }

    /// Keeps it from committing anything more, and answers with where it came to; none: it never began.
    pub async fn fence(client: &Client, run: &str, id: &str) -> Result<Option<(Progress, Option<String>)>> {
        let key = Self::key(run, id);
        loop {
            let Some(mut progress) = Progress::read(client, &key).await? else { return Ok(None) };
            progress.seq += 1;
            // No generation: nobody goes on from this row.
            progress.epoch = -1;
            match progress.append_flushed(client, &key).await {
                Ok(()) => return Ok(Some((progress, Progress::carrier(client, &key).await?))),
                // A transaction of its own was on its way: read again.
                Err(error) if error.code() == FENCED => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The first row of a hand-over, or the next one.
    pub async fn begin(
        client: &impl GenericClient,
        run: &str,
        id: &str,
        generation: i64,
        end_lsn: Lsn,
        carrier: &str,
    ) -> Result<()> {
        let key = Self::key(run, id);
        let seq: i64 = client
            .query_one("SELECT coalesce(max(seq), 0) + 1 FROM walferry.progress WHERE run = $1", &[&key])
            .await?
            .get(0);
        let progress = Progress { seq, epoch: generation, end_lsn, counters: Default::default() };
        client.batch_execute(&progress.insert_sql(&key, Carrier::At(Some(carrier)))).await?;
        Ok(())
    }
}

impl Assigned {
    pub async fn all(client: &impl GenericClient, run: &str) -> Result<Vec<Assigned>> {
        let rows = client
            .query(
                "SELECT schema, name, shard, from_lsn::text FROM walferry.shard_tables WHERE run = $1",
                &[&run],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let from: String = row.get(3);
                Ok(Assigned {
                    name: QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
                    shard: row.get(2),
                    from: from.parse().map_err(|error| {
                        Error::refuse("RUN_UNREADABLE", format!("{error} in walferry.shard_tables"))
                    })?,
                })
            })
            .collect()
    }

    /// In place of what stood there.
    pub async fn replace(client: &impl GenericClient, run: &str, all: &[Assigned]) -> Result<()> {
        client.execute("DELETE FROM walferry.shard_tables WHERE run = $1", &[&run]).await?;
        for table in all {
            client
                .execute(
                    "INSERT INTO walferry.shard_tables (run, schema, name, shard, from_lsn)
                     VALUES ($1, $2, $3, $4, $5::text::pg_catalog.pg_lsn)",
                    &[&run, &table.name.schema, &table.name.name, &table.shard, &table.from.to_string()],
                )
                .await?;
        }
        Ok(())
    }
}

/// Of all processes together: the smallest position, and the sum of what was counted. A transaction counts once, at the leader.
pub async fn together(client: &Client, run: &str, leader: Progress) -> Result<Progress> {
    let mut all = leader;
    if !Shard::exist(client).await? {
        return Ok(all);
    }
    for shard in Shard::all(client, run).await? {
        if let Some(progress) = Progress::read(client, &Shard::key(run, &shard.id)).await? {
            let transactions = all.counters.transactions;
            all.counters.add(&progress.counters);
            all.counters.transactions = transactions;
            if progress.epoch == shard.generation && shard.generation > 0 {
                all.end_lsn = all.end_lsn.min(progress.end_lsn);
            }
        }
    }
    Ok(all)
}
