//! What DDL on the source does to tables that are fed and the stream says nothing of: see [`reader::catalog::altered`].

use std::collections::BTreeSet;

use pg::{Lsn, QualifiedName, Result, Session};
use pipeline::TableSpec;
use serde_json::json;
use tokio_postgres::Client;
use writer::control::{Run, RunTable, TableState};

use super::context::Context;
use crate::config::Via;

/// Looks, again and again; says each thing once.
#[derive(Default)]
pub struct Watch {
    /// As they are recorded: what is fed changes with a new stream only.
    tables: Vec<TableSpec>,
    standing: BTreeSet<String>,
    /// A table's record was changed.
    pub recorded: bool,
}

impl Watch {
    /// Watches those of these tables that are fed.
    pub fn of(tables: &[RunTable]) -> Result<Watch> {
        let mut fed = Vec::new();
        for table in tables {
            let is_fed =
                matches!(table.state, TableState::Copied | TableState::Ready) && table.left_at.is_none();
            let spec = table.spec()?;
            if spec.streamed && is_fed {
                fed.push(spec.clone());
            }
        }
        Ok(Watch { tables: fed, ..Watch::default() })
    }

    /// What stands in the way now and would make the source refuse the application's writes. What has happened once is recorded as a gap.
    pub async fn look(
        &mut self,
        context: &Context,
        target: &Client,
        run: &Run,
        source: &Session,
    ) -> Result<Vec<String>> {
        let found = reader::catalog::altered(source, &self.tables).await?;
        let mut standing = BTreeSet::new();
        for (table, altered) in self.tables.iter_mut().zip(found) {
            let Some(altered) = altered else { continue };
            if altered.identity_lost {
                standing.insert(format!(
                    "table {} has lost its replica identity: the source refuses its updates and deletes; run there: ALTER TABLE {} \
                     REPLICA IDENTITY FULL, or give it a primary key",
                    table.name, table.name
                ));
            }
            if let Some(now) = altered.renamed.filter(|_| context.settings.run.via == Via::Kafka) {
                standing.insert(format!(
                    "table {} was renamed to {now} on the source: its events are in the topic of the new name, and are not applied; name it back, \
                     or rename it on the target too and copy it again under that name",
                    table.name
                ));
            }
            if altered.files == table.files && altered.attributes == table.attributes {
                continue;
            }
            if !altered.rewritten.is_empty() {
                let columns: Vec<&str> =
                    altered.rewritten.iter().map(|column| column.name.as_str()).collect();
                let columns = columns.join(", ");
                let what = format!("column(s) {columns} of table {} were written anew by DDL", table.name);
                note(context, target, run, source, &table.name, &what).await?;
            }
            if !altered.attached.is_empty() {
                let partitions = altered.attached.join(", ");
                let what = format!("{partitions} was attached to table {} with rows in it", table.name);
                note(context, target, run, source, &table.name, &what).await?;
            }
            for column in altered.rewritten {
                if let Some(before) = table.columns.iter_mut().find(|before| before.name == column.name) {
                    (before.type_oid, before.type_modifier) = (column.type_oid, column.type_modifier);
                }
            }
            (table.files, table.attributes) = (altered.files, altered.attributes);
            RunTable::set_spec(target, &run.name, table).await?;
            self.recorded = true;
        }
        for condition in standing.difference(&self.standing) {
            context.reporter.warning(condition.clone(), None);
        }
        self.standing = standing;
        Ok(self.standing.iter().cloned().collect())
    }
}

/// On the record, and said: rows have values that never were in the WAL as changes.
async fn note(
    context: &Context,
    target: &Client,
    run: &Run,
    source: &Session,
    table: &QualifiedName,
    what: &str,
) -> Result<()> {
    context.reporter.warning(
        format!("{what}, and the stream has nothing of it: the target may hold other values"),
        Some(format!(
            "walferry verify names the rows; to copy the table again, take it out of the publication, walferry refresh, empty it on the \
             target, put it back, walferry refresh: ALTER PUBLICATION … DROP TABLE {table}"
        )),
    );
    let position: String =
        source.query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let now = Run::read(target, &run.name).await?;
    let from = now.and_then(|run| run.live.source_lsn).unwrap_or_else(|| Lsn::ZERO.to_string());
    let gap = json!([{"tables": [table.to_string()], "from": from, "to": position, "reason": what}]);
    Run::add_gap(target, &run.name, &gap).await
}
