//! Versions of tables as the messages show them: an object's names, in order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use pg::{QualifiedName, Result};

use super::{encodings, malformed};
use crate::change::{Relation, RelationColumn, RelationId, ReplicaIdentity};
use crate::envelope::options::Options;
use crate::envelope::topic::Topics;
use crate::envelope::types::TableTypes;
use crate::envelope::value::Codec;

/// A table as its last messages show it.
pub(super) struct Table {
    pub(super) relation: Arc<Relation>,
    pub(super) codecs: Vec<Codec>,
    /// Made before the last description.
    stale: bool,
    /// The message key's columns that `relation` was made with.
    key: Vec<String>,
    /// The header `walferry.types` that `codecs` were made by.
    types: Option<String>,
    version: Option<String>,
}

/// What an event's headers say of its table's columns.
#[derive(Clone, Copy, Default)]
pub(super) struct Shown<'e> {
    /// How its values were written; None: the description says it.
    pub(super) types: Option<&'e str>,
    /// Which types the columns had.
    pub(super) version: Option<&'e str>,
}

impl Table {
    /// Is it the table of events with these headers?
    pub(super) fn shows(&self, shown: Shown<'_>) -> bool {
        self.types.as_deref() == shown.types && self.version.as_deref() == shown.version
    }
}

#[derive(Default)]
pub(super) struct Tables {
    by_name: HashMap<QualifiedName, Table>,
    /// The tables that were met in each topic; several may share one.
    by_topic: HashMap<String, Vec<Arc<QualifiedName>>>,
    /// OIDs given out: the source's are not in the events.
    ids: HashMap<QualifiedName, RelationId>,
}

impl Tables {
    pub(super) fn forget(&mut self) {
        self.by_name.values_mut().for_each(|table| table.stale = true);
    }

    /// The table that an event of `topic` says it is of.
    ///
    /// # Errors
    /// Its topic is another one.
    pub(super) fn name(
        &mut self,
        topics: &Topics,
        topic: &str,
        schema: &str,
        table: &str,
    ) -> Result<Arc<QualifiedName>> {
        let met = self.by_topic.get(topic).into_iter().flatten();
        if let Some(name) = met.into_iter().find(|name| name.name == table && name.schema == schema) {
            return Ok(name.clone());
        }
        let name = Arc::new(QualifiedName::new(schema, table));
        if topics.table(&name) != topic {
            return Err(malformed("its table is not the topic's"));
        }
        self.by_topic.entry(topic.to_owned()).or_default().push(name.clone());
        Ok(name)
    }

    /// The table as it was last seen, whatever its columns.
    pub(super) fn last(&self, name: &QualifiedName) -> Option<&Table> {
        self.by_name.get(name).filter(|table| !table.stale)
    }

    /// The version of `name` that has these columns, these headers and this key; made if it is new.
    pub(super) fn get<'n>(
        &mut self,
        options: &Options,
        types: Option<&TableTypes>,
        name: &QualifiedName,
        columns: impl ExactSizeIterator<Item = &'n str> + Clone,
        shown: Shown<'_>,
        key: Option<&[Cow<'_, str>]>,
    ) -> Result<&Table> {
        let known = self.by_name.get(name).is_some_and(|table| {
            !table.stale
                && table.shows(shown)
                && key.is_none_or(|key| table.key == *key)
                && table.relation.columns.len() == columns.len()
                && table.relation.columns.iter().map(|column| &column.name[..]).eq(columns.clone())
        });
        if !known {
            let next = RelationId(self.ids.len() as u32 + 1);
            let id = *self.ids.entry(name.clone()).or_insert(next);
            let earlier = self.by_name.remove(name).map(|table| table.key);
            let key = match key {
                Some(key) => key.iter().map(|name| name.clone().into_owned()).collect(),
                None => earlier.or_else(|| types.map(|types| types.key.clone())).unwrap_or_default(),
            };
            let table = make(options, types, name, id, columns, shown, key)?;
            self.by_name.insert(name.clone(), table);
        }
        Ok(&self.by_name[name])
    }
}

fn make<'n>(
    options: &Options,
    types: Option<&TableTypes>,
    name: &QualifiedName,
    id: RelationId,
    columns: impl Iterator<Item = &'n str>,
    shown: Shown<'_>,
    key: Vec<String>,
) -> Result<Table> {
    let written = shown.types.map(encodings::read).transpose()?;
    let identity = match types {
        Some(types) => types.identity,
        None if key.is_empty() => ReplicaIdentity::Full,
        None => ReplicaIdentity::Default,
    };
    let mut codecs = Vec::new();
    let columns = columns
        .map(|column| {
            let described = types.and_then(|types| types.column(column));
            let column = RelationColumn {
                name: column.to_owned(),
                type_id: described.map_or(0, |column| column.type_oid),
                type_modifier: described.map_or(-1, |column| column.type_modifier),
                key: identity == ReplicaIdentity::Full || key.iter().any(|key| key == column),
            };
            codecs.push(match &written {
                Some(written) => written.get(&column.name).cloned().unwrap_or_else(Codec::unnamed),
                None => Codec::new(options, &column, described),
            });
            column
        })
        .collect::<Vec<RelationColumn>>();
    let mut names: Vec<&str> = columns.iter().map(|column| &column.name[..]).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(malformed(format!("column \"{}\" twice", twice[0])));
    }
    let relation = Arc::new(Relation { id, name: name.clone(), identity, columns });
    let (types, version) = (shown.types.map(str::to_owned), shown.version.map(str::to_owned));
    Ok(Table { relation, codecs, stale: false, key, types, version })
}
