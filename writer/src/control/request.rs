//! Requests: how `verify`, `cutover` and `refresh` reach the running process, from any host and with no port open.
//!
//! A row in `walferry.requests`, polled every second and announced by NOTIFY. The asker renews the row's lease while it waits; the
//! running process drops a request whose lease has run out, so an asker that died can't hold the writer up.
//!
//! ```text
//! verify:   requested → held → at(X) → reached → released      requested, at, released: the asker; held, reached: the writer
//! others:   requested → running → done | failed
//! ```

use pg::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Client;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    Verify,
    Cutover,
    Refresh,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    Requested,
    /// verify: the writer has finished its transaction and keeps none open.
    Held,
    /// verify: the asker has a snapshot of the source at `args.lsn`.
    At,
    /// verify: the writer has applied every commit before it and nothing else.
    Reached,
    /// verify: the asker has its snapshot of the target; the writer goes on.
    Released,
    Running,
    Done,
    Failed,
}

/// One row of `walferry.requests`.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: i64,
    pub kind: RequestKind,
    pub args: Value,
    pub state: RequestState,
    pub result: Option<Value>,
    /// The asker has stopped renewing it.
    pub expired: bool,
}

fn word<T: Serialize>(value: T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn parse<T: for<'de> Deserialize<'de>>(text: String) -> Result<T> {
    serde_json::from_value(Value::String(text))
        .map_err(|_| Error::refuse("RUN_UNREADABLE", "unknown word in walferry.requests"))
}

/// Unix time in ms at which a cutover began to be carried out.
const BEGAN: &str = "began_ms";

const COLUMNS: &str = "id, kind, args, state, result, lease < pg_catalog.clock_timestamp()";

impl Request {
    fn from_row(row: &tokio_postgres::Row) -> Result<Request> {
        Ok(Request {
            id: row.get(0),
            kind: parse(row.get(1))?,
            args: row.get(2),
            state: parse(row.get(3))?,
            result: row.get(4),
            expired: row.get(5),
        })
    }

    /// Asks; returns the request's id.
    pub async fn ask(client: &Client, run: &str, kind: RequestKind, args: &Value) -> Result<i64> {
        let row = client
            .query_one(
                "INSERT INTO walferry.requests (run, kind, args) VALUES ($1, $2, $3) RETURNING id",
                &[&run, &word(kind), args],
            )
            .await?;
        announce(client, run).await?;
        Ok(row.get(0))
    }

    pub async fn read(client: &Client, id: i64) -> Result<Option<Request>> {
        let row = client
            .query_opt(&format!("SELECT {COLUMNS} FROM walferry.requests WHERE id = $1"), &[&id])
            .await?;
        row.as_ref().map(Self::from_row).transpose()
    }

    /// Requests that are not finished, oldest first.
    pub async fn open(client: &Client, run: &str) -> Result<Vec<Request>> {
        let rows = client
            .query(
                &format!(
                    "SELECT {COLUMNS} FROM walferry.requests \
                     WHERE run = $1 AND state NOT IN ('released', 'done', 'failed') ORDER BY id"
                ),
                &[&run],
            )
            .await?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Moves a request on and tells the other side; `args` or `result` replace what stood there when given.
    pub async fn advance(
        client: &Client,
        run: &str,
        id: i64,
        state: RequestState,
        args: Option<&Value>,
        result: Option<&Value>,
    ) -> Result<()> {
        client
            .execute(
                "UPDATE walferry.requests SET state = $2, args = coalesce($3, args), result = coalesce($4, result) \
                 WHERE id = $1",
                &[&id, &word(state), &args, &result],
            )
            .await?;
        announce(client, run).await
    }

    /// Takes what was asked for; false when it was withdrawn.
    pub async fn take(client: &Client, run: &str, id: i64) -> Result<bool> {
        let taken = client
            .execute(
                "UPDATE walferry.requests SET state = 'running' WHERE id = $1 AND state = 'requested'",
                &[&id],
            )
            .await?;
        announce(client, run).await?;
        Ok(taken > 0)
    }

    /// The process that serves it is still there.
    pub async fn beat(client: &Client, id: i64) -> Result<()> {
        client
            .execute(
                "UPDATE walferry.requests SET args = args || \
                 pg_catalog.jsonb_build_object('beat', pg_catalog.clock_timestamp()::text) WHERE id = $1 AND state = 'running'",
                &[&id],
            )
            .await?;
        Ok(())
    }

    /// From here on it is carried out, and can't be withdrawn any more; false when it was withdrawn before.
    pub async fn begin(client: &Client, id: i64, began_ms: u64) -> Result<bool> {
        let began_ms = serde_json::json!({ BEGAN: began_ms });
        let begun = client
            .execute(
                "UPDATE walferry.requests SET args = args || $2 WHERE id = $1 AND state = 'running'",
                &[&id, &began_ms],
            )
            .await?;
        Ok(begun > 0)
    }

    /// The asker takes it back; false when it is answered or carried out already.
    pub async fn withdraw(client: &Client, run: &str, id: i64) -> Result<bool> {
        let withdrawn = client
            .execute(
                "UPDATE walferry.requests SET state = 'failed' WHERE id = $1 \
                 AND (state = 'requested' OR state = 'running' AND NOT args ? $2)",
                &[&id, &BEGAN],
            )
            .await?;
        announce(client, run).await?;
        Ok(withdrawn > 0)
    }

    /// The asker is still there.
    pub async fn renew(client: &Client, id: i64) -> Result<()> {
        client
            .execute(
                "UPDATE walferry.requests SET lease = pg_catalog.clock_timestamp() + interval '60 s' WHERE id = $1",
                &[&id],
            )
            .await?;
        Ok(())
    }
}

async fn announce(client: &Client, run: &str) -> Result<()> {
    client.execute("SELECT pg_catalog.pg_notify('walferry', $1)", &[&run]).await?;
    Ok(())
}
