//! Which topic is which table of the target.

use std::collections::HashMap;

use pg::{Error, Lsn, QualifiedName, Result, Session};
use pipeline::envelope::Topics;
use reader::catalog::Selection;
use writer::control::{RunTable, TableState};

use crate::run::Context;

/// What is read and what it feeds.
pub struct Fed {
    /// With their partitions; the transaction topic among them, if there is one.
    pub topics: HashMap<String, usize>,
    tables: Vec<(u32, QualifiedName)>,
}

/// Matches topics and tables by name.
///
/// # Errors
/// `Refuse`: a topic whose table the target has not got; no topic at all is waited for.
pub async fn look(
    context: &Context,
    session: &Session,
    names: &Topics,
    found: &HashMap<String, usize>,
) -> Result<Fed> {
    let select = &context.settings.select;
    let selection = Selection {
        schemas: select.schema.clone(),
        exclude_schemas: select.exclude_schema.clone(),
        tables: select.table.clone(),
        exclude_tables: select.exclude_table.clone(),
    };
    let chosen = selection.condition(session).await?;
    let rows = session
        .query(
            &format!(
                "SELECT c.oid, n.nspname, c.relname, ({chosen}) FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'walferry')"
            ),
            &[],
        )
        .await?;
    let mut by_topic: HashMap<String, (u32, QualifiedName, bool)> = HashMap::new();
    for row in &rows {
        let name = QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2));
        by_topic.insert(names.table(&name), (row.get(0), name, row.get(3)));
    }
    if let Some(partitions) = found.get(&names.transaction).filter(|partitions| **partitions > 1) {
        return Err(Error::refuse(
            "TRANSACTION_TOPIC",
            format!("topic \"{}\" has {partitions} partitions, so the order of the transactions can't be told", names.transaction),
        )
        .hint(
            "give it one partition (topic.creation.groups=markers, topic.creation.markers.include=.*\\.transaction, \
             topic.creation.markers.partitions=1), or set provide.transaction.metadata=false and delete it",
        ));
    }
    let mut fed = Fed { topics: HashMap::new(), tables: Vec::new() };
    let mut unknown: Vec<&str> = Vec::new();
    for (topic, partitions) in found {
        if [&names.transaction, &names.message].contains(&topic) {
            fed.topics.insert(topic.clone(), *partitions);
            continue;
        }
        match by_topic.get(topic) {
            Some((oid, name, chosen)) => {
                fed.topics.insert(topic.clone(), *partitions);
                if *chosen {
                    fed.tables.push((*oid, name.clone()));
                }
            }
            None => unknown.push(topic),
        }
    }
    unknown.sort_unstable();
    if !unknown.is_empty() {
        return Err(Error::refuse("TABLE_MISSING", format!("topic \"{}\" is of no table on the target", unknown[0]))
            .detail(format!("topics without a table: {}", unknown.join(", ")))
            .hint(
                "create the table on the target (pg_dump --schema-only of the source has it), or give the connector's own topic.prefix as \
                 --prefix",
            ));
    }
    if fed.tables.is_empty() {
        return Err(Error::connection(format!(
            "no topic of prefix \"{}\" has a table on the target yet",
            names.transaction.trim_end_matches(".transaction")
        ))
        .with_code("KAFKA_NO_TOPICS")
        .hint("is --prefix the connector's topic.prefix, and has the connector sent anything?"));
    }
    fed.tables.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(fed)
}

impl Fed {
    pub fn oids(&self) -> Vec<u32> {
        self.tables.iter().map(|(oid, _)| *oid).collect()
    }

    /// As the run keeps them. A table that is not chosen has no record: what comes for it is passed over.
    pub fn records(&self) -> Vec<RunTable> {
        let record = |(_, name): &(u32, QualifiedName)| RunTable {
            name: name.clone(),
            state: TableState::Ready,
            copied_at: Some(Lsn::ZERO),
            left_at: None,
            rows: 0,
            bytes: 0,
            created: false,
            spec: None,
        };
        self.tables.iter().map(record).collect()
    }
}
