//! One run: a row of `walferry.runs`.

use pg::{Error, Lsn, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::{Client, GenericClient};

use super::Step;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Migrate,
    Replicate,
    /// The snapshot alone; its record goes with it.
    Copy,
}

impl Mode {
    /// The command that starts such a run.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Mode::Migrate => "migrate",
            Mode::Replicate => "replicate",
            Mode::Copy => "copy",
        }
    }
}

/// How far a cutover is. Absent: none was tried, or the last one was rolled back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutoverState {
    /// Recorded before the fence is committed on the source: a restart looks there.
    Fencing,
    /// The fence is committed on the source.
    Fenced,
    /// The target is open: it is the primary now.
    Open,
}

/// Which database of which server a run reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceIdentity {
    pub system_id: String,
    pub database: String,
    pub database_oid: u32,
    pub timeline: i64,
    pub version: u32,
}

/// What the running process said last, about once a second. Positions as text, sizes in bytes, times in ms.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    pub source_lsn: Option<String>,
    pub lag_bytes: Option<u64>,
    /// Age of what was applied last, 0 once nothing is left; none while unknown.
    pub lag_ms: Option<u64>,
    pub retained_wal_bytes: Option<u64>,
    /// Who waits behind our locks, or whom we wait for.
    pub waiting: Vec<String>,
    /// What somebody should do something about before it breaks.
    pub warnings: Vec<String>,
    /// Through Kafka: the run's topics, those of the transactions first.
    pub topics: Vec<TopicLive>,
    /// Outbox events that are routed in the same stream; none: nothing is routed there.
    pub outbox: Option<OutboxLive>,
    pub host: String,
    pub pid: u32,
    /// Unix time in ms at which this was written.
    pub at_ms: u64,
}

/// What the running process has routed since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboxLive {
    pub events: u64,
    pub dead_letters: u64,
}

/// How far the writer is behind the end of a topic, and ahead of its retention.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicLive {
    pub topic: String,
    pub partitions: u64,
    /// Records behind what the target has applied.
    pub lag_events: u64,
    /// Age of the first of them; 0: there is none.
    pub lag_ms: u64,
    /// None: they are kept for ever.
    pub retention_ms: Option<u64>,
    /// Until what is not applied is removed, if nothing is applied meanwhile.
    pub retention_left_ms: Option<u64>,
}

/// As `status` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusError {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl From<&Error> for StatusError {
    fn from(error: &Error) -> Self {
        StatusError {
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Run {
    pub name: String,
    pub mode: Mode,
    pub step: Step,
    pub cutover: Option<CutoverState>,
    pub epoch: i64,
    pub settings: Value,
    pub source: Option<SourceIdentity>,
    pub slot: String,
    /// The slot is about to be made, or was made and its LSN not yet recorded: drop it and start over.
    pub slot_intent: bool,
    /// Somebody else made the slot: it is never dropped.
    pub slot_adopted: bool,
    /// The slot's consistent point; set when step 2 is done.
    pub slot_lsn: Option<Lsn>,
    pub publications: Vec<String>,
    pub publication_own: bool,
    /// Tables whose identity walferry set to FULL, with what it was.
    pub keyless: Option<Value>,
    pub live: Live,
    pub error: Option<StatusError>,
    /// WAL intervals in which something was not published: `[{table, from, to}]`.
    pub gap: Option<Value>,
    /// Seconds since the epoch.
    pub started_at: f64,
    pub started_at_text: String,
}

const COLUMNS: &str = "name, mode, step, cutover, epoch, settings, source, slot, slot_intent, slot_adopted, slot_lsn::text, \
     publications, publication_own, keyless, live, error, gap, \
     extract(epoch FROM started_at)::float8, \
     pg_catalog.to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";

pub(crate) fn lsn(text: String) -> Result<Lsn> {
    text.parse().map_err(|error| Error::refuse("RUN_UNREADABLE", format!("{error} in schema walferry")))
}

pub(crate) fn lsn_opt(text: Option<String>) -> Result<Option<Lsn>> {
    text.map(lsn).transpose()
}

fn json<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Error::refuse("RUN_UNREADABLE", format!("walferry.runs holds what this version can't read: {error}"))
    })
}

fn value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

impl Run {
    fn from_row(row: &tokio_postgres::Row) -> Result<Run> {
        let step: String = row.get(2);
        Ok(Run {
            name: row.get(0),
            mode: json(Value::String(row.get(1)))?,
            step: Step::parse(&step)?,
            cutover: row.get::<_, Option<String>>(3).map(|text| json(Value::String(text))).transpose()?,
            epoch: row.get(4),
            settings: row.get(5),
            source: row.get::<_, Option<Value>>(6).map(json).transpose()?,
            slot: row.get(7),
            slot_intent: row.get(8),
            slot_adopted: row.get(9),
            slot_lsn: lsn_opt(row.get(10))?,
            publications: row.get(11),
            publication_own: row.get(12),
            keyless: row.get(13),
            live: row.get::<_, Option<Value>>(14).map(json).transpose()?.unwrap_or_default(),
            error: row.get::<_, Option<Value>>(15).map(json).transpose()?,
            gap: row.get(16),
            started_at: row.get(17),
            started_at_text: row.get(18),
        })
    }

    /// The run of that name; `None` when there is none, or no schema `walferry` at all.
    pub async fn read(client: &Client, name: &str) -> Result<Option<Run>> {
        if !super::exists(client).await? {
            return Ok(None);
        }
        let row = client
            .query_opt(&format!("SELECT {COLUMNS} FROM walferry.runs WHERE name = $1"), &[&name])
            .await?;
        row.as_ref().map(Self::from_row).transpose()
    }

    /// The epoch of the run of that name alone.
    pub async fn epoch_of(client: &Client, name: &str) -> Result<Option<i64>> {
        if !super::exists(client).await? {
            return Ok(None);
        }
        let row = client.query_opt("SELECT epoch FROM walferry.runs WHERE name = $1", &[&name]).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// What the publications were at the last look, as [`Run::set_publications`] has stored it: megabytes where there are many tables.
    pub async fn publication_state(client: &Client, name: &str) -> Result<Option<Value>> {
        let sql = "SELECT publication_state FROM walferry.runs WHERE name = $1";
        Ok(client.query_opt(sql, &[&name]).await?.and_then(|row| row.get(0)))
    }

    /// One member of that, a text.
    pub async fn publication_text(client: &Client, name: &str, member: &str) -> Result<Option<String>> {
        let sql = "SELECT publication_state ->> $2 FROM walferry.runs WHERE name = $1";
        Ok(client.query_opt(sql, &[&name, &member]).await?.and_then(|row| row.get(0)))
    }

    /// Every run of this target.
    pub async fn all(client: &Client) -> Result<Vec<Run>> {
        if !super::exists(client).await? {
            return Ok(Vec::new());
        }
        let rows = client.query(&format!("SELECT {COLUMNS} FROM walferry.runs ORDER BY name"), &[]).await?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Starts a run's record: step `preflight`, nothing made yet.
    #[allow(clippy::too_many_arguments)]
    pub async fn create(
        client: &Client,
        name: &str,
        mode: Mode,
        settings: &Value,
        source: &SourceIdentity,
        slot: &str,
        publications: &[String],
        publication_own: bool,
    ) -> Result<Run> {
        let row = client
            .query_one(
                &format!(
                    "INSERT INTO walferry.runs (name, mode, step, settings, source, slot, publications, publication_own) \
                     VALUES ($1, $2, 'preflight', $3, $4, $5, $6, $7) RETURNING {COLUMNS}"
                ),
                &[
                    &name,
                    &value(&mode).as_str(),
                    settings,
                    &value(source),
                    &slot,
                    &publications,
                    &publication_own,
                ],
            )
            .await?;
        Self::from_row(&row)
    }

    async fn set<T: tokio_postgres::types::ToSql + Sync>(
        client: &impl GenericClient,
        name: &str,
        column: &str,
        to: &T,
    ) -> Result<()> {
        client
            .execute(
                &format!(
                    "UPDATE walferry.runs SET {column} = $2, updated_at = pg_catalog.clock_timestamp() WHERE name = $1"
                ),
                &[&name, to],
            )
            .await?;
        Ok(())
    }

    /// Moves the run to `step`, and notes the time.
    pub async fn set_step(client: &Client, name: &str, step: Step) -> Result<()> {
        Self::set(client, name, "step", &step.as_str()).await?;
        super::StepTime::begin(client, name, step).await
    }

    pub async fn set_slot_intent(client: &impl GenericClient, name: &str, intent: bool) -> Result<()> {
        Self::set(client, name, "slot_intent", &intent).await
    }

    /// Step 2 is done: the slot's consistent point is known, and the slot is kept from now on.
    pub async fn set_slot(client: &impl GenericClient, name: &str, lsn: Lsn, adopted: bool) -> Result<()> {
        client
            .execute(
                "UPDATE walferry.runs SET slot_lsn = $2::text::pg_catalog.pg_lsn, slot_adopted = $3, slot_intent = false, \
                 updated_at = pg_catalog.clock_timestamp() WHERE name = $1",
                &[&name, &lsn.to_string(), &adopted],
            )
            .await?;
        Ok(())
    }

    pub async fn set_cutover(
        client: &impl GenericClient,
        name: &str,
        state: Option<CutoverState>,
    ) -> Result<()> {
        Self::set(client, name, "cutover", &state.and_then(|s| value(&s).as_str().map(str::to_owned))).await
    }

    /// The source is on another timeline from now on.
    pub async fn set_source(client: &impl GenericClient, name: &str, source: &SourceIdentity) -> Result<()> {
        Self::set(client, name, "source", &value(source)).await
    }

    pub async fn set_settings(client: &impl GenericClient, name: &str, settings: &Value) -> Result<()> {
        Self::set(client, name, "settings", settings).await
    }

    pub async fn set_publications(
        client: &impl GenericClient,
        name: &str,
        publications: &[String],
        state: &Value,
    ) -> Result<()> {
        Self::set(client, name, "publications", &publications).await?;
        Self::set(client, name, "publication_state", state).await
    }

    pub async fn set_keyless(client: &impl GenericClient, name: &str, keyless: &Value) -> Result<()> {
        Self::set(client, name, "keyless", keyless).await
    }

    /// Adds to the list of what the stream did not bring.
    pub async fn add_gap(client: &impl GenericClient, name: &str, gap: &Value) -> Result<()> {
        let sql = "UPDATE walferry.runs SET gap = coalesce(gap, '[]') || $2, updated_at = clock_timestamp() WHERE name = $1";
        client.execute(sql, &[&name, gap]).await?;
        Ok(())
    }

    pub async fn set_live(client: &impl GenericClient, name: &str, live: &Live) -> Result<()> {
        Self::set(client, name, "live", &value(live)).await
    }

    pub async fn set_error(
        client: &impl GenericClient,
        name: &str,
        error: Option<&StatusError>,
    ) -> Result<()> {
        Self::set(client, name, "error", &error.map(value)).await
    }

    /// A new process takes the run: its epoch is one higher, on disk when this returns. The slot may be acknowledged only after.
    pub async fn bump_epoch(client: &Client, name: &str) -> Result<i64> {
        client.batch_execute("SET synchronous_commit = on").await?;
        let row = client
            .query_one("UPDATE walferry.runs SET epoch = epoch + 1 WHERE name = $1 RETURNING epoch", &[&name])
            .await?;
        Ok(row.get(0))
    }
}
