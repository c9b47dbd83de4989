//! Simple queries: text in, text out.

use postgres_protocol::message::frontend;

use super::{DataRow, Wire, tag};
use crate::{Error, Result};

/// Rows of values as text.
pub type TextRows = Vec<Vec<Option<String>>>;

impl Wire {
    /// Runs `sql` (one or more statements, or one replication command) and returns the last result's rows.
    ///
    /// Not cancel-safe: after a dropped call the replies of this query are still to come.
    pub async fn simple(&mut self, sql: &str) -> Result<TextRows> {
        frontend::query(sql, self.out())?;
        self.flush().await?;
        let mut rows = TextRows::new();
        let mut error: Option<Error> = None;
        loop {
            let frame = match self.recv().await {
                Ok(frame) => frame,
                // What a dying server said is worth more than that it hung up.
                Err(lost) => return Err(error.unwrap_or(lost)),
            };
            match frame.tag {
                tag::ROW_DESCRIPTION => rows.clear(),
                tag::DATA_ROW => {
                    let row = DataRow::new(&frame);
                    rows.push(row.values().map(|value| value.map(text)).collect());
                }
                tag::ERROR_RESPONSE => error = error.or_else(|| Some(frame.error())),
                tag::READY_FOR_QUERY => return error.map_or(Ok(rows), Err),
                tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE => {}
                _ => return Err(frame.unexpected("in answer to a query")),
            }
        }
    }

    /// The first value of the first row.
    pub async fn simple_value(&mut self, sql: &str) -> Result<Option<String>> {
        let rows = self.simple(sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
