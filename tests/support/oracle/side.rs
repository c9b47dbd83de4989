//! One side of a comparison: a session whose output does not depend on the server's settings.

use tokio_postgres::{Client, Row};

use crate::support::postgres::{explain, keep, session};

/// The schemas that are nobody's data.
pub const FOREIGN_SCHEMAS: &str =
    "('pg_catalog', 'information_schema', 'pg_toast', 'walferry', 'walferry_fence')";

const PINNED: &str = "
    SET datestyle = 'ISO, YMD'; SET intervalstyle = postgres; SET timezone = 'UTC'; SET extra_float_digits = 3;
    SET bytea_output = hex; SET search_path = pg_catalog; SET client_encoding = UTF8; SET lc_monetary = 'C';
    SET xmloption = content; SET statement_timeout = 0; SET row_security = off;
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub struct Side {
    uri: String,
    client: Client,
    pub major: u32,
}

impl Side {
    pub async fn open(uri: &str) -> Self {
        let client = session(uri).await.unwrap_or_else(|e| panic!("{uri}: {}", explain(&e)));
        client.batch_execute(PINNED).await.unwrap_or_else(|e| panic!("{}", explain(&e)));
        let mut side = Self { uri: uri.to_owned(), client, major: 0 };
        let version: i32 = side.rows("SELECT current_setting('server_version_num')::int").await[0].get(0);
        side.major = u32::try_from(version / 10_000).expect("a version");
        side
    }

    /// Leaves the session to the fixture's next call.
    pub async fn close(self) {
        if self.client.batch_execute("ROLLBACK; RESET ALL").await.is_ok() {
            keep(&self.uri, self.client, "");
        }
    }

    pub async fn rows(&self, statement: &str) -> Vec<Row> {
        let result = self.client.query(statement, &[]).await;
        result.unwrap_or_else(|e| panic!("PostgreSQL {}: {}\n  in: {statement}", self.major, explain(&e)))
    }

    /// The first column, as text.
    pub async fn lines(&self, statement: &str) -> Vec<String> {
        self.rows(statement).await.iter().map(|row| row.get(0)).collect()
    }
}

pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
