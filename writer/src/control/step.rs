//! The steps of the fixed sequence, in order.

use std::fmt;

use pg::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// Where a run stands. Never goes back once `Live`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    Preflight,
    Slot,
    Schema,
    Copy,
    Indexes,
    Catchup,
    Live,
    Cutover,
    Done,
}

impl Step {
    pub const ALL: [Step; 9] = [
        Step::Preflight,
        Step::Slot,
        Step::Schema,
        Step::Copy,
        Step::Indexes,
        Step::Catchup,
        Step::Live,
        Step::Cutover,
        Step::Done,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::Slot => "slot",
            Step::Schema => "schema",
            Step::Copy => "copy",
            Step::Indexes => "indexes",
            Step::Catchup => "catchup",
            Step::Live => "live",
            Step::Cutover => "cutover",
            Step::Done => "done",
        }
    }

    pub fn parse(text: &str) -> Result<Step> {
        Step::ALL.into_iter().find(|step| step.as_str() == text).ok_or_else(|| {
            Error::refuse("RUN_UNREADABLE", format!("unknown step \"{text}\" in walferry.runs"))
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long a step took.
#[derive(Clone, Debug, Serialize)]
pub struct StepTime {
    pub step: Step,
    pub seconds: f64,
}

impl StepTime {
    /// Notes that a step begins (the first time counts) and that those before it have ended.
    pub async fn begin(client: &Client, run: &str, step: Step) -> Result<()> {
        let before: Vec<&str> = Step::ALL.iter().filter(|s| **s < step).map(|s| s.as_str()).collect();
        client
            .execute(
                "UPDATE walferry.steps SET ended_at = pg_catalog.clock_timestamp() \
                 WHERE run = $1 AND step = ANY ($2) AND ended_at IS NULL",
                &[&run, &before],
            )
            .await?;
        client
            .execute(
                "INSERT INTO walferry.steps (run, step) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                &[&run, &step.as_str()],
            )
            .await?;
        Ok(())
    }

    pub async fn all(client: &Client, run: &str) -> Result<Vec<StepTime>> {
        let rows = client
            .query(
                "SELECT step, extract(epoch FROM coalesce(ended_at, pg_catalog.clock_timestamp()) - started_at)::float8 \
                 FROM walferry.steps WHERE run = $1 ORDER BY started_at",
                &[&run],
            )
            .await?;
        rows.iter().map(|row| Ok(StepTime { step: Step::parse(row.get(0))?, seconds: row.get(1) })).collect()
    }
}
