//! SQL from the test itself, as the superuser. What a call sets, the next one does not see: `kept`.

use std::time::{Duration, Instant};

use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};

use super::{Postgres, kept};

/// `application_name` of the fixture's own sessions, so that checks can tell them from the program's.
pub const APPLICATION: &str = "fixture";

/// A session with any server, by URI.
pub async fn connect(uri: &str) -> Result<Client, tokio_postgres::Error> {
    connect_as(uri, APPLICATION).await
}

/// As `connect`, with an `application_name` of its own.
pub async fn connect_as(uri: &str, application: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = uri.parse()?;
    config.application_name(application);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What the server said, in full: tokio-postgres alone prints "db error".
pub fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        None => error.to_string(),
        Some(db) => format!(
            "{} {}{}{}",
            db.code().code(),
            db.message(),
            db.detail().map(|d| format!("\n  detail: {d}")).unwrap_or_default(),
            db.hint().map(|h| format!("\n  hint: {h}")).unwrap_or_default(),
        ),
    }
}

impl Postgres {
    /// A session as the superuser; it ends when the client is dropped.
    pub async fn connect(&self, database: &str) -> Client {
        let uri = self.uri(database);
        connect(&uri).await.unwrap_or_else(|e| panic!("{uri}: {}", explain(&e)))
    }

    /// Runs statements, separated by semicolons. In one transaction, unless they say otherwise.
    pub async fn sql(&self, database: &str, statements: &str) {
        if let Err(e) = self.try_sql(database, statements).await {
            panic!("PostgreSQL {}: {}\n  in: {statements}", self.major(), explain(&e));
        }
    }

    pub async fn try_sql(&self, database: &str, statements: &str) -> Result<(), tokio_postgres::Error> {
        let anew = kept::needs_new_sessions(statements);
        if anew {
            kept::end(&self.sessions());
        }
        let uri = self.uri(database);
        let client = kept::session(&uri).await?;
        client.batch_execute(statements).await?;
        if !anew {
            kept::keep(&uri, client, statements);
        }
        Ok(())
    }

    pub async fn query(&self, database: &str, statement: &str) -> Vec<Row> {
        let (uri, client) = self.session(database).await;
        let rows = client.query(statement, &[]).await.unwrap_or_else(|e| self.failed(&e, statement));
        kept::keep(&uri, client, statement);
        rows
    }

    /// The one value of a one-row result. Its type has to fit exactly (`int` is i32, `count(*)` is i64).
    pub async fn value<T: FromSqlOwned>(&self, database: &str, statement: &str) -> T {
        let rows = self.query(database, statement).await;
        assert_eq!(rows.len(), 1, "one row expected from: {statement}");
        rows[0].get(0)
    }

    /// All values as text, NULL as `None`, whatever their types are.
    pub async fn text(&self, database: &str, statement: &str) -> Vec<Vec<Option<String>>> {
        let (uri, client) = self.session(database).await;
        let messages = client.simple_query(statement).await.unwrap_or_else(|e| self.failed(&e, statement));
        kept::keep(&uri, client, statement);
        messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    }

    async fn session(&self, database: &str) -> (String, Client) {
        let uri = self.uri(database);
        let client = kept::session(&uri).await.unwrap_or_else(|e| panic!("{uri}: {}", explain(&e)));
        (uri, client)
    }

    fn failed(&self, error: &tokio_postgres::Error, statement: &str) -> ! {
        panic!("PostgreSQL {}: {}\n  in: {statement}", self.major(), explain(error))
    }

    /// Waits until a query that answers with one boolean answers true.
    pub async fn wait_until(&self, database: &str, statement: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let (uri, client) = self.session(database).await;
        loop {
            let row = client.query_one(statement, &[]).await;
            let row = row.unwrap_or_else(|e| self.failed(&e, statement));
            if row.get::<_, Option<bool>>(0) == Some(true) {
                kept::keep(&uri, client, statement);
                return;
            }
            assert!(Instant::now() < deadline, "still not true after {timeout:?}: {statement}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn create_database(&self, name: &str) {
        self.create_database_with(name, "").await;
    }

    /// With options of CREATE DATABASE.
    pub async fn create_database_with(&self, name: &str, options: &str) {
        // From 15 on the copy goes through the WAL, which costs this server more, and every walsender on it that decodes.
        let strategy = if self.major() >= 15 { "STRATEGY file_copy" } else { "" };
        let name = name.replace('"', "\"\"");
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" {options} {strategy}")).await;
    }

    /// Creates a role that may log in; `options` as in CREATE ROLE, for example `REPLICATION PASSWORD 'x'`.
    pub async fn create_role(&self, name: &str, options: &str) {
        let name = name.replace('"', "\"\"");
        self.sql("postgres", &format!("CREATE ROLE \"{name}\" LOGIN {options}")).await;
    }

    /// The end of the WAL, as in `0/15D6A50`.
    pub async fn wal_position(&self) -> String {
        self.value("postgres", "SELECT pg_current_wal_lsn()::text").await
    }

    pub(super) async fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match connect(&self.uri("postgres")).await {
                Ok(_) => return,
                Err(e) if Instant::now() > deadline => {
                    panic!("PostgreSQL {} is not ready: {}\n{}", self.major(), explain(&e), self.log())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}
