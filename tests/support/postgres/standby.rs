//! A streaming standby of a server, for failover.

use super::{Builder, Postgres, builder, template};
use crate::support::programs;

impl Postgres {
    /// A hot standby that streams from `primary` (12 or newer). With `settings` on top of the primary's, for
    /// example `sync_replication_slots`.
    pub async fn standby_of(primary: &Postgres, settings: &[(&str, &str)]) -> Postgres {
        assert!(primary.major() >= 12, "standby.signal needs 12 or newer");
        let folder = builder::server_folder(primary.major());
        let mut command = programs::as_server_account(programs::client("pg_basebackup"));
        command
            .args(["-D".as_ref(), folder.join("data").as_os_str()])
            .args(["-d", &primary.uri("postgres"), "-X", "stream", "-c", "fast", "--no-sync"])
            .current_dir(&folder);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("pg_basebackup ends");
        let output = output.expect("pg_basebackup runs");
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        // What -R writes is for a libpq as new as pg_basebackup, which an older server does not have.
        template::write_private(&folder.join("data").join("standby.signal"), "");
        let conninfo = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", primary.port());
        let settings: Vec<_> = [("primary_conninfo", conninfo.as_str())]
            .iter()
            .chain(settings)
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Builder::launch(primary.major(), folder, &settings).await
    }

    /// Makes a standby a primary.
    pub async fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote(true, 60)").await;
    }
}
