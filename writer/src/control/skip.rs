//! Source transactions left out on an operator's word, on the record.

use std::collections::BTreeSet;

use pg::{Lsn, Result};
use tokio_postgres::Client;

/// Commit LSNs of the transactions to leave out.
#[derive(Clone, Debug, Default)]
pub struct Skips(pub BTreeSet<Lsn>);

impl Skips {
    pub async fn read(client: &Client, run: &str) -> Result<Skips> {
        let rows =
            client.query("SELECT commit_lsn::text FROM walferry.skips WHERE run = $1", &[&run]).await?;
        rows.iter().map(|row| super::run::lsn(row.get(0))).collect::<Result<_>>().map(Skips)
    }

    #[must_use]
    pub fn contains(&self, commit_lsn: Lsn) -> bool {
        self.0.contains(&commit_lsn)
    }
}

/// Puts `commit_lsn` on the list; the running process sees it at its next try.
pub async fn ask_to_skip(client: &Client, run: &str, commit_lsn: Lsn) -> Result<()> {
    client
        .execute(
            "INSERT INTO walferry.skips (run, commit_lsn) VALUES ($1, $2::text::pg_catalog.pg_lsn) ON CONFLICT DO NOTHING",
            &[&run, &commit_lsn.to_string()],
        )
        .await?;
    client.execute("SELECT pg_catalog.pg_notify('walferry', $1)", &[&run]).await?;
    Ok(())
}
