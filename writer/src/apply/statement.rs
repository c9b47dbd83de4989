//! The SQL of each shape of change, and its prepared statements.
//!
//! Parameters come in text: PostgreSQL's own input functions read what its own output functions wrote. A parameter is cast to the
//! column's type without modifier, so that too long a value is an error (an explicit cast to varchar(3) would cut it).

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use bytes::BytesMut;
use pg::{Error, Result};
use postgres_protocol::message::frontend;

use super::target::Target;

/// What a prepared statement does; with the table's id, its name in the cache.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Shape {
    /// One row. Parameters: the written columns.
    Insert,
    /// One row by key. Parameters: the columns that came, then the key, then the columns that can't be set.
    Update { unchanged: Vec<u16> },
    /// One row by key. Parameters: the key.
    Delete,
    /// One of the rows equal to the old one. Parameters: the columns that came, then the old values that are not NULL.
    UpdateFull { unchanged: Vec<u16>, nulls: Vec<u16> },
    /// Parameters: the old values that are not NULL.
    DeleteFull { nulls: Vec<u16> },
    /// Many rows by key. Parameters: an array of texts for each column that came.
    UpdateSet { unchanged: Vec<u16> },
    /// The same. Parameter: one array of the table's rows.
    UpdateRows { unchanged: Vec<u16> },
    /// Many rows by key. Parameters: an array for each key column, of texts or, where values come in binary, of the column's type.
    DeleteSet,
    /// Is a row with the key there? Parameters: the key.
    Exists,
    /// Is a row there that is equal to the old one? Parameters: the old values that are not NULL.
    ExistsFull { nulls: Vec<u16> },
}

/// Columns that an UPDATE sets: all that came, but for generated ones and identity ALWAYS, which can't be set.
pub fn set_columns<'a>(target: &'a Target, unchanged: &'a [u16]) -> impl Iterator<Item = usize> + 'a {
    target
        .columns
        .iter()
        .enumerate()
        .filter(|(index, column)| {
            column.written && !column.identity_always && !unchanged.contains(&(*index as u16))
        })
        .map(|(index, _)| index)
}

/// Columns that came and can't be set: an UPDATE finds only a row that holds the value already. (Those of the key are compared anyway.)
pub fn fixed_columns<'a>(target: &'a Target, unchanged: &'a [u16]) -> impl Iterator<Item = usize> + 'a {
    target
        .columns
        .iter()
        .enumerate()
        .filter(|(index, column)| {
            column.written
                && column.identity_always
                && !target.key.contains(index)
                && !unchanged.contains(&(*index as u16))
        })
        .map(|(index, _)| index)
}

/// Columns whose values a set of updates carries: those it sets or compares, and the key.
pub fn carried_columns<'a>(target: &'a Target, unchanged: &'a [u16]) -> impl Iterator<Item = usize> + 'a {
    (0..target.columns.len()).filter(|index| {
        target.key.contains(index)
            || set_columns(target, unchanged).chain(fixed_columns(target, unchanged)).any(|one| one == *index)
    })
}

fn join(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

fn key_condition(target: &Target, first: usize) -> String {
    let condition = |(n, &index): (usize, &usize)| {
        let column = &target.columns[index];
        format!("t.{} {} ${}::{}", column.ident, column.equals, first + n, column.cast)
    };
    join(target.key.iter().enumerate().map(condition), " AND ")
}

fn assignments(target: &Target, unchanged: &[u16]) -> (String, usize) {
    let mut sql = String::new();
    let mut count = 0;
    for index in set_columns(target, unchanged) {
        let column = &target.columns[index];
        let comma = if count == 0 { "" } else { ", " };
        count += 1;
        let _ = write!(sql, "{comma}{} = ${count}::{}", column.ident, column.cast);
    }
    (sql, count)
}

/// Where a row equals the old one by its types' own equality; among those, the one with the same text first.
fn full_row(target: &Target, nulls: &[u16], first: usize) -> String {
    let mut conditions = Vec::new();
    let mut same_text = Vec::new();
    let mut parameter = first;
    for (index, column) in target.columns.iter().enumerate().filter(|(_, column)| column.written) {
        if nulls.contains(&(index as u16)) {
            conditions.push(format!("f.{} IS NULL", column.ident));
            continue;
        }
        // The parameter keeps the column's type even where texts are compared: its output is then the stored row's output.
        let value = format!("${parameter}::{}", column.cast);
        parameter += 1;
        if column.compare_text {
            conditions.push(format!("f.{}::text = ({value})::text", column.ident));
        } else {
            conditions.push(format!("f.{} {} {value}", column.ident, column.equals));
            if column.loose_equality {
                same_text
                    .push(format!("f.{}::text COLLATE pg_catalog.\"C\" = ({value})::text", column.ident));
            }
        }
    }
    if conditions.is_empty() {
        conditions.push("true".to_owned());
    }
    let order = if same_text.is_empty() {
        String::new()
    } else {
        format!(" ORDER BY ({}) DESC", same_text.join(" AND "))
    };
    let row = if target.partitioned { "f.tableoid, f.ctid" } else { "f.ctid" };
    let this = if target.partitioned { "(t.tableoid, t.ctid)" } else { "t.ctid" };
    format!(
        "{this} = (SELECT {row} FROM {} f WHERE {}{order} LIMIT 1)",
        target.only,
        conditions.join(" AND ")
    )
}

fn unnest(columns: impl Iterator<Item = usize>) -> String {
    let names: Vec<usize> = columns.collect();
    // Qualified, `unnest` takes one array only.
    let arrays = join((1..=names.len()).map(|n| format!("pg_catalog.unnest(${n}::pg_catalog.text[])")), ", ");
    let columns = join(names.iter().map(|index| format!("c{index}")), ", ");
    format!("ROWS FROM ({arrays}) AS v({columns})")
}

fn set_key_condition(target: &Target) -> String {
    let condition = |&index: &usize| {
        let column = &target.columns[index];
        format!("t.{} {} v.c{index}::{}", column.ident, column.equals, column.cast)
    };
    join(target.key.iter().map(condition), " AND ")
}

/// The SQL of a shape for a table.
pub fn sql(target: &Target, shape: &Shape) -> String {
    let only = &target.only;
    match shape {
        Shape::Insert => {
            let columns: Vec<_> = target.written().map(|index| &target.columns[index]).collect();
            if columns.is_empty() {
                return format!("INSERT INTO {} DEFAULT VALUES", target.sql);
            }
            let names = join(columns.iter().map(|column| column.ident.clone()), ", ");
            let values =
                join(columns.iter().enumerate().map(|(n, c)| format!("${}::{}", n + 1, c.cast)), ", ");
            format!("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})", target.sql)
        }
        Shape::Update { unchanged } => {
            let (set, count) = assignments(target, unchanged);
            let mut sql = format!("UPDATE {only} AS t SET {set} WHERE {}", key_condition(target, count + 1));
            for (n, index) in fixed_columns(target, unchanged).enumerate() {
                let column = &target.columns[index];
                let parameter = count + target.key.len() + 1 + n;
                let _ =
                    write!(sql, " AND t.{} IS NOT DISTINCT FROM ${parameter}::{}", column.ident, column.cast);
            }
            sql
        }
        Shape::Delete => format!("DELETE FROM {only} AS t WHERE {}", key_condition(target, 1)),
        Shape::UpdateFull { unchanged, nulls } => {
            let (set, count) = assignments(target, unchanged);
            format!("UPDATE {only} AS t SET {set} WHERE {}", full_row(target, nulls, count + 1))
        }
        Shape::DeleteFull { nulls } => {
            format!("DELETE FROM {only} AS t WHERE {}", full_row(target, nulls, 1))
        }
        Shape::UpdateSet { unchanged } => {
            let set = join(
                set_columns(target, unchanged).map(|index| {
                    let column = &target.columns[index];
                    format!("{} = v.c{index}::{}", column.ident, column.cast)
                }),
                ", ",
            );
            let values = unnest(carried_columns(target, unchanged));
            let mut sql =
                format!("UPDATE {only} AS t SET {set} FROM {values} WHERE {}", set_key_condition(target));
            for index in fixed_columns(target, unchanged) {
                let column = &target.columns[index];
                let _ =
                    write!(sql, " AND t.{} IS NOT DISTINCT FROM v.c{index}::{}", column.ident, column.cast);
            }
            sql
        }
        Shape::UpdateRows { unchanged } => {
            let row = |index: usize| format!("v.{}", target.columns[index].ident);
            let set = set_columns(target, unchanged)
                .map(|index| format!("{} = {}", target.columns[index].ident, row(index)));
            let key = target.key.iter().map(|&index| {
                let column = &target.columns[index];
                format!("t.{} {} {}", column.ident, column.equals, row(index))
            });
            let fixed = fixed_columns(target, unchanged).map(|index| {
                format!("t.{} IS NOT DISTINCT FROM {}", target.columns[index].ident, row(index))
            });
            format!(
                "UPDATE {only} AS t SET {} FROM pg_catalog.unnest($1::{}[]) AS v WHERE {}",
                join(set, ", "),
                target.sql,
                join(key.chain(fixed), " AND ")
            )
        }
        Shape::DeleteSet if target.binary => {
            let key = sorted_key(target);
            let arrays = key.iter().enumerate().map(|(n, &index)| {
                format!("pg_catalog.unnest(${}::{}[])", n + 1, target.columns[index].cast)
            });
            let names = key.iter().map(|index| format!("c{index}"));
            let condition = target.key.iter().map(|&index| {
                let column = &target.columns[index];
                format!("t.{} {} v.c{index}", column.ident, column.equals)
            });
            format!(
                "DELETE FROM {only} AS t USING ROWS FROM ({}) AS v({}) WHERE {}",
                join(arrays, ", "),
                join(names, ", "),
                join(condition, " AND ")
            )
        }
        Shape::DeleteSet => {
            let values = unnest(sorted_key(target).into_iter());
            format!("DELETE FROM {only} AS t USING {values} WHERE {}", set_key_condition(target))
        }
        Shape::Exists => {
            format!("SELECT 1 FROM {only} AS t WHERE {} LIMIT 1", key_condition(target, 1))
        }
        Shape::ExistsFull { nulls } => {
            format!("SELECT 1 FROM {only} AS t WHERE {}", full_row(target, nulls, 1))
        }
    }
}

/// Key positions in column order: the order in which a set of deletes carries them.
pub fn sorted_key(target: &Target) -> Vec<usize> {
    let mut key = target.key.clone();
    key.sort_unstable();
    key
}

/// Prepared statements of one connection.
#[derive(Default)]
pub struct Statements {
    names: HashMap<u32, HashMap<Shape, String>>,
    /// Of what is no change to a table, by the text.
    others: HashMap<String, String>,
    count: usize,
    /// Tables that rows were inserted into.
    inserted: HashSet<u32>,
}

/// Past this many the connection forgets them all: each costs the server memory.
const LIMIT: usize = 2000;

impl Statements {
    /// The statement's name; on first use its Parse message is put into `out` before it.
    pub fn prepare(&mut self, target: &Target, shape: Shape, out: &mut BytesMut) -> Result<&str> {
        let shapes = self.names.entry(target.id).or_default();
        if !shapes.contains_key(&shape) {
            let name = parse(&mut self.count, &sql(target, &shape), out)?;
            shapes.insert(shape.clone(), name);
        }
        Ok(shapes.get(&shape).map_or("", String::as_str))
    }

    /// The same of a statement that is no change to a table.
    pub fn prepare_other(&mut self, query: &str, out: &mut BytesMut) -> Result<&str> {
        if !self.others.contains_key(query) {
            let name = parse(&mut self.count, query, out)?;
            self.others.insert(query.to_owned(), name);
        }
        Ok(self.others.get(query).map_or("", String::as_str))
    }

    /// True, once: nothing was inserted into the table yet on this connection, as far as it remembers.
    pub fn first_insert(&mut self, target: &Target) -> bool {
        self.inserted.insert(target.id)
    }

    pub fn overfull(&self) -> bool {
        self.count > LIMIT
    }

    /// After `DEALLOCATE ALL`.
    pub fn clear(&mut self) {
        self.names.clear();
        self.others.clear();
        self.inserted.clear();
        self.count = 0;
    }
}

fn parse(count: &mut usize, query: &str, out: &mut BytesMut) -> Result<String> {
    *count += 1;
    let name = format!("w{count}");
    frontend::parse(&name, query, std::iter::empty(), out)
        .map_err(|error| Error::failed("PROTOCOL", error.to_string()))?;
    Ok(name)
}
