//! How the stream's values travel: in binary where every table of the run can take them so, as text otherwise.
//!
//! The walsender writes one format for all. Binary costs both servers less, and only types whose bytes mean the same on every server may
//! travel so. What is decided here is a guess by the tables' records: the writer looks at each table before it writes to it, and ends the
//! stream if one is unfit, which then begins again with text.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use pg::Result;
use pipeline::{TableSpec, is_portable};
use tokio_postgres::Client;
use writer::control::{RunTable, TableState};

use crate::config::Via;
use crate::run::context::Context;

/// `pgoutput` writes binary from here on.
const FIRST: u32 = 14;

/// What there is to know of the source.
pub(super) struct Formats {
    major: u32,
    enums: HashSet<u32>,
}

impl Formats {
    pub(super) async fn read(source: &Client) -> Result<Formats> {
        let row = source
            .query_one(
                "SELECT pg_catalog.current_setting('server_version_num')::int4 / 10000,
                        ARRAY(SELECT oid FROM pg_catalog.pg_type WHERE typtype = 'e')",
                &[],
            )
            .await?;
        let (major, enums): (i32, Vec<u32>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Formats { major: major.unsigned_abs(), enums: enums.into_iter().collect() })
    }

    /// May the stream's values be binary?
    pub(super) fn binary(&self, context: &Context, tables: &[RunTable]) -> Result<bool> {
        if !context.settings.apply.binary
            || context.settings.run.via != Via::Direct
            || context.text_stream.load(Ordering::Relaxed)
            || self.major < FIRST
        {
            return Ok(false);
        }
        for table in tables.iter().filter(|table| table.state != TableState::Left) {
            if !self.fits(table.spec()?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fits(&self, table: &TableSpec) -> bool {
        let fits = |id: u32| is_portable(id) || self.enums.contains(&id);
        table.columns.iter().all(|column| fits(column.type_oid))
    }
}
