//! Row events and truncates.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use pg::{Lsn, QualifiedName, Result};

use super::columns::{Shown, Table, Tables};
use super::fields::{self, Fields};
use super::marker::committed_at;
use super::{COLUMNS, Dialect, LONGEST, malformed, missing, payload, payload_or_null};
use crate::change::{Change, Column, OldTuple, Relation, RelationColumn, RelationId, ReplicaIdentity, Tuple};
use crate::envelope::decoded::{Decoded, Moved, Record, RowEvent};
use crate::envelope::header;
use crate::envelope::json::read::Value;
use crate::envelope::message::Position;
use crate::envelope::options::Options;
use crate::envelope::topic::Topics;
use crate::envelope::types::TableTypes;
use crate::envelope::value::is_unavailable;

pub(super) struct Context<'a> {
    pub(super) options: &'a Options,
    pub(super) topics: &'a Topics,
    pub(super) dialect: Dialect,
    pub(super) types: &'a HashMap<QualifiedName, TableTypes>,
}

type Members<'a> = [(Cow<'a, str>, Value<'a>)];

pub(super) fn decode(
    context: &Context<'_>,
    tables: &mut Tables,
    record: &Record<'_>,
    value: &Value<'_>,
) -> Result<Decoded> {
    let source = value.member("source")?;
    if source.text("name")? != context.options.prefix {
        return Err(malformed("\"source.name\" is another prefix"));
    }
    let name = tables.name(context.topics, record.topic, source.text("schema")?, source.text("table")?)?;
    let xid = source.optional("txId").map(|_| source.whole::<u64>("txId")).transpose()?.map(|xid| xid as u32);
    let position = match fields::position(record)? {
        Some(position) => position,
        None if context.dialect == Dialect::Walferry => return Err(missing(header::POSITION)),
        None => Position { commit_lsn: Lsn::new(source.whole("lsn")?), index: 0 },
    };
    let operation = value.text("op")?;
    let shown = match context.dialect {
        Dialect::Walferry => Shown {
            types: fields::header(record, header::TYPES)?,
            version: fields::header(record, header::VERSION)?,
        },
        Dialect::Debezium => Shown::default(),
    };
    let mut event = Event { context, tables, record, value, name: &name, shown, unchanged: Vec::new() };
    event.unchanged = event.unchanged_columns()?;
    let (change, moved, truncated_together) = match operation {
        "c" | "r" => event.create()?,
        "u" => (event.update()?, Moved::No, 0),
        "d" => event.delete()?,
        "t" => event.truncate()?,
        _ => return Err(malformed("\"op\" is none of r, c, u, d, t")),
    };
    Ok(Decoded::Change(Box::new(RowEvent {
        change,
        snapshot: operation == "r",
        position,
        sequence: match context.dialect {
            Dialect::Walferry => None,
            Dialect::Debezium => sequence(source),
        },
        epoch: fields::epoch(record)?,
        xid,
        committed_at: committed_at(source)?,
        transaction: fields::place(value)?,
        moved,
        truncated_together,
    })))
}

/// `source.sequence` is JSON in a string.
fn sequence(source: &Value<'_>) -> Option<(Lsn, Lsn)> {
    let text = source.get("sequence")?.as_str()?;
    let Ok(Value::Array(lsns)) = Value::read(text.as_bytes()) else { return None };
    let lsn = |at: usize| Some(Lsn::new(lsns.get(at)?.as_str()?.parse().ok()?));
    Some((lsn(0)?, lsn(1)?))
}

struct Event<'e> {
    context: &'e Context<'e>,
    tables: &'e mut Tables,
    record: &'e Record<'e>,
    value: &'e Value<'e>,
    name: &'e QualifiedName,
    shown: Shown<'e>,
    /// Columns whose value was not sent, as the header names them.
    unchanged: Vec<String>,
}

impl<'e> Event<'e> {
    fn unchanged_columns(&self) -> Result<Vec<String>> {
        let Some(header) = fields::header(self.record, header::UNCHANGED)? else { return Ok(Vec::new()) };
        let wrong = || malformed(format!("header {} is not an array of names", header::UNCHANGED));
        let Ok(Value::Array(names)) = Value::read(header.as_bytes()) else { return Err(wrong()) };
        names.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// The image of that name; None: null or not there.
    fn image(&self, name: &str) -> Result<Option<&'e Members<'e>>> {
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(members)) if members.len() <= COLUMNS => Ok(Some(members)),
            Some(Value::Object(_)) => Err(malformed(format!("\"{name}\" has more than {COLUMNS} columns"))),
            Some(_) => Err(malformed(format!("\"{name}\" is not an object"))),
        }
    }

    fn after(&self) -> Result<&'e Members<'e>> {
        self.image("after")?.ok_or_else(|| missing("after"))
    }

    fn create(&mut self) -> Result<(Change, Moved, u32)> {
        let after = self.after()?;
        let key = message_key(self.record.key)?;
        let old_key = fields::header(self.record, header::OLD_KEY)?;
        let context = self.context;
        let unchanged = std::mem::take(&mut self.unchanged);
        let table = version(context, self.tables, self.name, after, self.shown, Some(key.as_ref()))?;
        let new = tuple(context, table, after, &unchanged, false)?;
        let relation = table.relation.clone();
        let Some(old_key) = old_key else { return Ok((Change::Insert { relation, new }, Moved::No, 0)) };
        let old_key = payload(old_key.as_bytes())?;
        let Value::Object(members) = &old_key else { return Err(malformed("the old key is not an object")) };
        let old = OldTuple::Key(tuple(context, table, members, &[], true)?);
        Ok((Change::Update { relation, old: Some(Box::new(old)), new }, Moved::Here, 0))
    }

    fn update(&mut self) -> Result<Change> {
        let (before, after) = (self.image("before")?, self.after()?);
        let key = message_key(self.record.key)?;
        let context = self.context;
        let unchanged = std::mem::take(&mut self.unchanged);
        let table = version(context, self.tables, self.name, after, self.shown, Some(key.as_ref()))?;
        let old = before.map(|before| old(context, table, before, key.as_ref()).map(Box::new)).transpose()?;
        let new = tuple(context, table, after, &unchanged, false)?;
        Ok(Change::Update { relation: table.relation.clone(), old, new })
    }

    fn delete(&mut self) -> Result<(Change, Moved, u32)> {
        let before = self.image("before")?.ok_or_else(|| missing("before"))?;
        let key = message_key(self.record.key)?;
        let context = self.context;
        // A delete shows the key alone: the other columns are those of the row before it.
        let fits = |table: &Table| {
            let columns = &table.relation.columns;
            table.shows(self.shown)
                && before.len() <= columns.len()
                && before.iter().all(|(name, _)| columns.iter().any(|column| column.name == *name))
        };
        let table = match self.tables.last(self.name) {
            Some(table) if fits(table) => table,
            _ => version(context, self.tables, self.name, before, self.shown, Some(key.as_ref()))?,
        };
        let old = old(context, table, before, key.as_ref())?;
        let moved = match fields::header(self.record, header::NEW_KEY)? {
            Some(_) => Moved::Away,
            None => Moved::No,
        };
        Ok((Change::Delete { relation: table.relation.clone(), old }, moved, 0))
    }

    fn truncate(&mut self) -> Result<(Change, Moved, u32)> {
        let relation = match self.tables.last(self.name) {
            Some(table) => table.relation.clone(),
            None => described(self.context.types.get(self.name), self.name),
        };
        let mut together = 1;
        let (mut cascade, mut restart_identity) = (false, false);
        if let Some(flags) = fields::header(self.record, header::TRUNCATE)? {
            let wrong = || malformed(format!("header {} does not parse", header::TRUNCATE));
            let mut flags = flags.split(',');
            together = flags
                .next()
                .and_then(|count| count.parse().ok())
                .filter(|count| *count > 0)
                .ok_or_else(wrong)?;
            for flag in flags {
                match flag {
                    "cascade" => cascade = true,
                    "restart_identity" => restart_identity = true,
                    _ => return Err(wrong()),
                }
            }
        }
        Ok((Change::Truncate { relations: vec![relation], cascade, restart_identity }, Moved::No, together))
    }
}

/// A table that only a TRUNCATE has shown: its name is all that matters.
fn described(types: Option<&TableTypes>, name: &QualifiedName) -> Arc<Relation> {
    let columns = types.map_or(&[][..], |types| &types.columns);
    Arc::new(Relation {
        id: RelationId(0),
        name: name.clone(),
        identity: types.map_or(ReplicaIdentity::Default, |types| types.identity),
        columns: columns
            .iter()
            .map(|column| RelationColumn {
                name: column.name.clone(),
                type_id: column.type_oid,
                type_modifier: column.type_modifier,
                key: types.is_some_and(|types| types.key.contains(&column.name)),
            })
            .collect(),
    })
}

/// The names of the message key's columns.
fn message_key(key: Option<&[u8]>) -> Result<Vec<Cow<'_, str>>> {
    let Some(key) = key else { return Ok(Vec::new()) };
    match payload_or_null(key)? {
        Value::Object(members) if members.len() <= COLUMNS => {
            Ok(members.into_iter().map(|(name, _)| name).collect())
        }
        Value::Null => Ok(Vec::new()),
        _ => Err(malformed("the key is not an object")),
    }
}

fn version<'t>(
    context: &Context<'_>,
    tables: &'t mut Tables,
    name: &QualifiedName,
    image: &Members<'_>,
    shown: Shown<'_>,
    key: Option<&[Cow<'_, str>]>,
) -> Result<&'t Table> {
    let columns = image.iter().map(|(name, _)| &**name);
    tables.get(context.options, context.types.get(name), name, columns, shown, key)
}

/// The old row. A key tuple's other columns mean nothing.
fn old(context: &Context<'_>, table: &Table, before: &Members<'_>, key: &[Cow<'_, str>]) -> Result<OldTuple> {
    let full = match context.dialect {
        Dialect::Walferry => {
            before.len() == table.relation.columns.len()
                && (table.relation.identity == ReplicaIdentity::Full
                    || before.iter().any(|(name, _)| !key.iter().any(|key| key == name)))
        }
        Dialect::Debezium => table.relation.identity == ReplicaIdentity::Full,
    };
    if full {
        Ok(OldTuple::Full(tuple(context, table, before, &[], false)?))
    } else {
        Ok(OldTuple::Key(tuple(context, table, before, &[], true)?))
    }
}

/// A row in the table's order. `sparse`: only the columns that are there, and of Debezium's only the key's, the rest are NULL.
fn tuple(
    context: &Context<'_>,
    table: &Table,
    image: &Members<'_>,
    unchanged: &[String],
    sparse: bool,
) -> Result<Tuple> {
    let columns = &table.relation.columns;
    if image.len() > columns.len() || (!sparse && image.len() != columns.len()) {
        return Err(malformed("the row's columns are not the table's"));
    }
    let mut values: Vec<Option<Cow<'_, [u8]>>> = Vec::with_capacity(columns.len());
    let mut absent = vec![false; columns.len()];
    let mut length = 0;
    for (at, (column, codec)) in columns.iter().zip(&table.codecs).enumerate() {
        let value = match image.get(at) {
            Some((name, value)) if *name == column.name => Some(value),
            _ => image.iter().find(|(name, _)| *name == column.name).map(|(_, value)| value),
        };
        let value = match value {
            Some(_) if sparse && context.dialect == Dialect::Debezium && !column.key => None,
            None if !sparse => return Err(malformed(format!("a row without column \"{}\"", column.name))),
            value => value,
        };
        let Some(value) = value else {
            values.push(None);
            continue;
        };
        absent[at] = if context.dialect == Dialect::Walferry {
            unchanged.contains(&column.name)
        } else {
            is_unavailable(value, &context.options.unavailable)
        };
        if absent[at] {
            values.push(None);
            continue;
        }
        let text =
            codec.read(value).map_err(|what| malformed(format!("column \"{}\": {what}", column.name)))?;
        if text.as_ref().is_some_and(|text| text.contains(&0)) {
            return Err(malformed(format!("column \"{}\": a zero byte", column.name)));
        }
        // A few bytes can say a long value: bits and digits that are zero.
        length += text.as_ref().map_or(0, |text| text.len());
        if length > LONGEST {
            return Err(malformed(format!("a row of more than {LONGEST} bytes")));
        }
        values.push(text);
    }
    let columns: Vec<Column<'_>> = values
        .iter()
        .zip(absent)
        .map(|(value, absent)| match value {
            _ if absent => Column::Unchanged,
            Some(text) => Column::Text(text),
            None => Column::Null,
        })
        .collect();
    Ok(Tuple::from_columns(&columns))
}
