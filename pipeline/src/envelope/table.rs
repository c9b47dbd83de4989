//! A version of a table, prepared so that a row costs copies only.

use std::sync::Arc;

use pg::{QualifiedName, Result};

use super::json;
use super::options::{Options, Values};
use super::schema;
use super::topic::Topics;
use super::types::TableTypes;
use super::value::Codec;
use crate::change::{Column, Relation, ReplicaIdentity, Tuple};

pub(super) struct Table {
    /// The version this was made of.
    pub(super) relation: Arc<Relation>,
    pub(super) topic: String,
    /// `schema.table`, as in `data_collections`.
    pub(super) collection: String,
    /// `"schema":"…","table":"…","txId":`
    pub(super) source: Vec<u8>,
    columns: Vec<TableColumn>,
    /// Positions of the message key's columns.
    key: Vec<usize>,
    /// What ends a key.
    key_end: Vec<u8>,
    /// What stands before a key and a value: their schemas, if they are wanted.
    pub(super) key_opening: Vec<u8>,
    pub(super) value_opening: Vec<u8>,
    /// The header `walferry.types`.
    pub(super) types_header: Option<Vec<u8>>,
    /// The header `walferry.version`.
    pub(super) version: Vec<u8>,
}

struct TableColumn {
    /// `"name":`
    name: Vec<u8>,
    codec: Codec,
    placeholder: Vec<u8>,
}

/// Which columns of a tuple are written.
#[derive(Clone, Copy)]
pub(super) enum Part {
    All,
    /// The columns of the replica identity: the others of a key tuple mean nothing.
    Identity,
}

impl Table {
    pub(super) fn new(
        options: &Options,
        topics: &Topics,
        relation: &Arc<Relation>,
        types: Option<&TableTypes>,
    ) -> Table {
        let columns: Vec<TableColumn> = relation
            .columns
            .iter()
            .map(|column| {
                let codec = Codec::new(options, column, types.and_then(|types| types.column(&column.name)));
                let mut name = Vec::new();
                json::string(&mut name, column.name.as_bytes());
                name.push(b':');
                TableColumn { name, placeholder: codec.placeholder(column, &options.unavailable), codec }
            })
            .collect();
        let mut source = Vec::new();
        source.extend_from_slice(b"\"schema\":");
        json::string(&mut source, relation.name.schema.as_bytes());
        source.extend_from_slice(b",\"table\":");
        json::string(&mut source, relation.name.name.as_bytes());
        source.extend_from_slice(b",\"txId\":");
        let topic = topics.table(&relation.name);
        let key_field = topics.key_field(&relation.name);
        let key = key_of(relation, types);
        let codecs: Vec<&Codec> = columns.iter().map(|column| &column.codec).collect();
        let (key_opening, value_opening) = schema::table(
            options,
            &topic,
            relation,
            types,
            &codecs,
            &key,
            key_field.as_ref().map(|(name, _)| *name),
        );
        let mut key_end = Vec::new();
        if let Some((name, value)) = &key_field {
            key_end.push(b',');
            json::string(&mut key_end, name.as_bytes());
            key_end.push(b':');
            json::string(&mut key_end, value.as_bytes());
        }
        key_end.push(b'}');
        let types_header = (options.values == Values::Debezium).then(|| types_header(&columns));
        Table {
            relation: relation.clone(),
            topic,
            collection: format!("{}.{}", relation.name.schema, relation.name.name),
            source,
            columns,
            key,
            key_end,
            key_opening,
            value_opening,
            types_header,
            version: format!("{:08x}", version(relation)).into_bytes(),
        }
    }

    pub(super) fn name(&self) -> &QualifiedName {
        &self.relation.name
    }

    /// Appends the message key of a row; false: the table has none. Key values that were not sent again come from `old`.
    pub(super) fn write_key(&self, out: &mut Vec<u8>, row: &Tuple, old: Option<&Tuple>) -> Result<bool> {
        self.write_key_columns(out, row, old)?;
        if self.key.is_empty() {
            return Ok(false);
        }
        out.extend_from_slice(&self.key_end);
        Ok(true)
    }

    /// Appends the key as the table has it, wherever its rows go: what the headers of a key change hold.
    pub(super) fn write_own_key(&self, out: &mut Vec<u8>, row: &Tuple, old: Option<&Tuple>) -> Result<()> {
        self.write_key_columns(out, row, old)?;
        out.push(b'}');
        Ok(())
    }

    /// Without what ends it; nothing where there is no key.
    fn write_key_columns(&self, out: &mut Vec<u8>, row: &Tuple, old: Option<&Tuple>) -> Result<()> {
        if self.key.is_empty() {
            return Ok(());
        }
        out.push(b'{');
        for (count, &at) in self.key.iter().enumerate() {
            if count > 0 {
                out.push(b',');
            }
            let column = &self.columns[at];
            out.extend_from_slice(&column.name);
            column.codec.write(out, value(row, old, at), &column.placeholder)?;
        }
        Ok(())
    }

    /// The message keys of two versions of a row differ.
    pub(super) fn key_changed(&self, old: &Tuple, new: &Tuple) -> bool {
        self.key.iter().any(|&at| differs(old, new, at))
    }

    /// The replica identities of two versions of a row differ.
    pub(super) fn identity_changed(&self, old: &Tuple, new: &Tuple) -> bool {
        self.relation.columns.iter().enumerate().any(|(at, column)| column.key && differs(old, new, at))
    }

    /// Appends a row as an object. Values that were not sent come from `old` or, where that has none, are noted in `unchanged`.
    pub(super) fn write_row(
        &self,
        out: &mut Vec<u8>,
        row: &Tuple,
        part: Part,
        old: Option<(&Tuple, Part)>,
        unchanged: &mut Vec<u16>,
    ) -> Result<()> {
        out.push(b'{');
        let mut first = true;
        let mut old = old.map(|(tuple, part)| (tuple.columns(), part));
        for (at, (mut value, column)) in row.columns().zip(&self.columns).enumerate() {
            let key = self.relation.columns[at].key;
            let before = old
                .as_mut()
                .and_then(|(columns, part)| columns.next().filter(|_| key || matches!(part, Part::All)));
            if matches!(part, Part::Identity) && !key {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            if value == Column::Unchanged {
                match before {
                    Some(before) if before != Column::Unchanged => value = before,
                    _ => unchanged.push(at as u16),
                }
            }
            out.extend_from_slice(&column.name);
            column.codec.write(out, value, &column.placeholder).map_err(|error| {
                error.context(format_args!("{}.{}", self.name(), self.relation.columns[at].name))
            })?;
        }
        out.push(b'}');
        Ok(())
    }

    /// Appends the names of `unchanged` as a JSON array.
    pub(super) fn write_names(&self, out: &mut Vec<u8>, unchanged: &[u16]) {
        out.push(b'[');
        for (count, &at) in unchanged.iter().enumerate() {
            if count > 0 {
                out.push(b',');
            }
            let name = &self.columns[usize::from(at)].name;
            out.extend_from_slice(&name[..name.len() - 1]);
        }
        out.push(b']');
    }
}

/// FNV-1a over the columns' types and modifiers. It only has to differ from the version's before it.
fn version(relation: &Relation) -> u32 {
    let types = relation
        .columns
        .iter()
        .flat_map(|column| [column.type_id.to_be_bytes(), column.type_modifier.to_be_bytes()].concat());
    types.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// `{}` where no column needs it: without the header an event is an earlier version's, which is read by a description.
fn types_header(columns: &[TableColumn]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for column in columns {
        let Some(name) = column.codec.name() else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&column.name);
        json::string(&mut out, name.as_bytes());
    }
    out.push(b'}');
    out
}

/// Positions of the key's columns. With REPLICA IDENTITY USING INDEX a delete brings that index's columns alone: where they don't
/// hold the primary key, they are the key.
fn key_of(relation: &Relation, types: Option<&TableTypes>) -> Vec<usize> {
    let position = |name: &String| relation.columns.iter().position(|column| column.name == *name);
    let described: Option<Vec<usize>> = types.and_then(|types| types.key.iter().map(position).collect());
    let identity = || {
        let columns = relation.columns.iter().enumerate();
        columns.filter(|(_, column)| column.key).map(|(at, _)| at).collect::<Vec<_>>()
    };
    match (relation.identity, described) {
        (ReplicaIdentity::Full, described) => described.unwrap_or_default(),
        (ReplicaIdentity::Index, Some(key)) if key.iter().all(|&at| relation.columns[at].key) => key,
        (ReplicaIdentity::Index, _) | (_, None) => identity(),
        (_, Some(key)) => key,
    }
}

fn value<'a>(row: &'a Tuple, old: Option<&'a Tuple>, at: usize) -> Column<'a> {
    match row.columns().nth(at) {
        Some(Column::Unchanged) | None => {
            old.and_then(|old| old.columns().nth(at)).unwrap_or(Column::Unchanged)
        }
        Some(value) => value,
    }
}

fn differs(old: &Tuple, new: &Tuple, at: usize) -> bool {
    let new = new.columns().nth(at);
    new != Some(Column::Unchanged) && old.columns().nth(at) != new
}
