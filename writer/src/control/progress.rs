//! Progress: how far the target has come, committed with the rows it covers.
//!
//! Append-only. Every target transaction that applies changes inserts the row `seq + 1` of its run; the primary key (run, seq) is
//! the fence: of two processes that would both apply the next transaction, one waits for the other's commit and then fails with
//! 23505. A row may be pruned that one still wants to insert, so an apply transaction also asks for its predecessor, and gets a number
//! that is taken where that is gone or not its own. Nothing is updated in place, so a snapshot held for hours on the target doesn't make the newest row slower to find.
//! Old rows are pruned in the background (docs/decisions/0002-progress.md).

use pg::{Error, Lsn, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// What was applied over the whole life of a run. Counts source events, before any coalescing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub inserted: i64,
    pub updated: i64,
    pub deleted: i64,
    /// A TRUNCATE of three tables counts three.
    pub truncated: i64,
    pub transactions: i64,
    /// Updates and deletes that found no row.
    pub missing: i64,
    /// Inserts that met their key.
    pub overwritten: i64,
    /// Changes left out by `walferry skip`.
    pub skipped: i64,
}

impl Counters {
    pub fn add(&mut self, more: &Counters) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.deleted += more.deleted;
        self.truncated += more.truncated;
        self.transactions += more.transactions;
        self.missing += more.missing;
        self.overwritten += more.overwritten;
        self.skipped += more.skipped;
    }

    /// In the order of the table's columns.
    fn in_order(&self) -> [i64; 8] {
        [
            self.inserted,
            self.updated,
            self.deleted,
            self.truncated,
            self.transactions,
            self.missing,
            self.overwritten,
            self.skipped,
        ]
    }

    /// Row changes and truncated tables.
    #[must_use]
    pub fn changes(&self) -> i64 {
        self.inserted + self.updated + self.deleted + self.truncated
    }
}

/// The newest row of `walferry.progress` of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    pub seq: i64,
    /// Counts the starts of the run.
    pub epoch: i64,
    /// End LSN of the last applied transaction, or a later idle position.
    pub end_lsn: Lsn,
    pub counters: Counters,
}

/// The carrier's position in a new row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier<'a> {
    At(Option<&'a str>),
    /// As in the newest row: nothing was applied.
    Same,
}

/// What a row is made of, in the order of the parameters of [`Progress::next_sql`].
macro_rules! columns {
    () => {
        "run, seq, epoch, end_lsn, inserted, updated, deleted, truncated, transactions, missing, overwritten, skipped, carrier"
    };
}
const COLUMNS: &str = columns!();

macro_rules! next {
    ($carrier:literal) => {
        concat!(
            "INSERT INTO walferry.progress (",
            columns!(),
            ") VALUES ($1::text, coalesce(\
             (SELECT seq + 1 FROM walferry.progress WHERE run = $1::text AND seq = $2::bigint - 1 AND epoch = $3::bigint FOR KEY SHARE), \
             (SELECT seq FROM walferry.progress WHERE run = $1::text ORDER BY seq DESC LIMIT 1 FOR KEY SHARE)), \
             $3::bigint, $4::pg_lsn, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bigint, $10::bigint, $11::bigint, $12::bigint, ",
            $carrier,
            ")"
        )
    };
}

impl Progress {
    pub async fn read(client: &Client, run: &str) -> Result<Option<Progress>> {
        let row = client
            .query_opt(
                "SELECT seq, epoch, end_lsn::text, inserted, updated, deleted, truncated, transactions, missing, \
                        overwritten, skipped \
                 FROM walferry.progress WHERE run = $1 ORDER BY seq DESC LIMIT 1",
                &[&run],
            )
            .await?;
        row.map(|row| {
            Ok(Progress {
                seq: row.get(0),
                epoch: row.get(1),
                end_lsn: super::run::lsn(row.get(2))?,
                counters: Counters {
                    inserted: row.get(3),
                    updated: row.get(4),
                    deleted: row.get(5),
                    truncated: row.get(6),
                    transactions: row.get(7),
                    missing: row.get(8),
                    overwritten: row.get(9),
                    skipped: row.get(10),
                },
            })
        })
        .transpose()
    }

    /// Where the carrier of changes takes up, in its own words; `None`: it goes by the LSN.
    pub async fn carrier(client: &Client, run: &str) -> Result<Option<String>> {
        let sql = "SELECT carrier FROM walferry.progress WHERE run = $1 ORDER BY seq DESC LIMIT 1";
        Ok(client.query_opt(sql, &[&run]).await?.and_then(|row| row.get(0)))
    }

    /// The statement that appends `self`, with the carrier's position.
    #[must_use]
    pub fn insert_sql(&self, run: &str, carrier: Carrier<'_>) -> String {
        let run = pg::quote_literal(run);
        let carrier = match carrier {
            Carrier::At(None) => "NULL".to_owned(),
            Carrier::At(Some(position)) => pg::quote_literal(position),
            Carrier::Same => {
                format!("(SELECT carrier FROM walferry.progress WHERE run = {run} ORDER BY seq DESC LIMIT 1)")
            }
        };
        let counts = self.counters.in_order().map(|count| count.to_string()).join(", ");
        format!(
            "INSERT INTO walferry.progress ({COLUMNS}) VALUES ({run}, {}, {}, '{}', {counts}, {carrier})",
            self.seq, self.epoch, self.end_lsn
        )
    }

    /// Appends `self` with [`Progress::next_values`]: the same for whoever has been at `seq - 1` since some time. Fails with 23505 as well if
    /// that row is gone, or is one of another epoch. The predecessor is locked against being pruned until the row is in.
    #[must_use]
    pub fn next_sql(carrier: Carrier<'_>) -> &'static str {
        match carrier {
            Carrier::At(_) => next!("$13::text"),
            Carrier::Same => next!(
                "(SELECT carrier FROM walferry.progress WHERE run = $1::text ORDER BY seq DESC LIMIT 1)"
            ),
        }
    }

    /// The parameters of [`Progress::next_sql`], as texts.
    #[must_use]
    pub fn next_values(&self, run: &str, carrier: Carrier<'_>) -> Vec<Option<String>> {
        let mut values = vec![
            Some(run.to_owned()),
            Some(self.seq.to_string()),
            Some(self.epoch.to_string()),
            Some(self.end_lsn.to_string()),
        ];
        values.extend(self.counters.in_order().map(|count| Some(count.to_string())));
        if let Carrier::At(position) = carrier {
            values.push(position.map(str::to_owned));
        }
        values
    }

    /// Appends a row with `synchronous_commit = on`: when this returns, everything committed before in the target is on disk. On an error no
    /// transaction is left open.
    pub async fn append_flushed(&self, client: &Client, run: &str) -> Result<()> {
        let sql = format!(
            "BEGIN; SET LOCAL synchronous_commit = on; {}; COMMIT",
            self.insert_sql(run, Carrier::Same)
        );
        let Err(error) = client.batch_execute(&sql).await else { return Ok(()) };
        // The session is used again by whoever tries again.
        let _ = client.batch_execute("ROLLBACK").await;
        Err(fenced(Error::from(error), run))
    }

    /// Removes rows that are no longer the newest, from `from` on (what was pruned before is not visited again).
    pub async fn prune(client: &Client, run: &str, from: i64, before: i64) -> Result<()> {
        client
            .execute(
                "DELETE FROM walferry.progress WHERE run = $1 AND seq >= $2 AND seq < $3",
                &[&run, &from, &before],
            )
            .await?;
        Ok(())
    }
}

/// Code of the error for a progress row that was there already.
pub const FENCED: &str = "FENCED";

/// A unique violation on the progress key: another transaction has gone on from where this one started. It may be this process's own
/// one of before, whose COMMIT was not answered, so the next step is to read progress again, which also tells whether the epoch is
/// still ours.
#[must_use]
pub fn fenced(error: Error, run: &str) -> Error {
    if error.is(pg::sqlstate::UNIQUE_VIOLATION) && error.constraint() == Some("progress_pkey") {
        return Error::connection(format!("run \"{run}\" has gone on elsewhere")).with_code(FENCED);
    }
    error
}
