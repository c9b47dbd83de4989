//! The statements that read one side of a table.
//!
//! ```text
//! sums      bucket, rows, Σh1, Σh2        of a part, all buckets
//! entries   order, h1, h2, key, place     of single rows, in some buckets
//! by_key    the same                      of the rows with given keys
//! ```
//!
//! The text of a row is made once, under `OFFSET 0`, and hashed twice: without that the planner would put the whole expression in both
//! places. The sum is numeric and not xor: two equal rows would cancel each other out.

use super::hashing::Hashing;
use super::pair::{Pair, Reads};
use super::side::Which;

/// Which rows of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slice {
    All,
    /// Pages from the first up to, but without, the second; without a second to the end of the table.
    Pages(u64, Option<u64>),
    /// The share of this number, of so many.
    Share(u32, u32),
}

/// Says how one side of one table is read.
#[derive(Clone, Copy)]
pub struct Statements<'a> {
    pub pair: &'a Pair,
    pub which: Which,
    pub hashing: &'a Hashing,
    /// Columns are digested one by one: for rows whose text would be longer than a text can be.
    pub digest: bool,
}

impl Statements<'_> {
    fn reads(&self) -> &Reads {
        self.pair.side(self.which)
    }

    fn row_text(&self) -> String {
        let expressions = self.reads().row.iter().map(|expression| match (self.digest, expression.bytea) {
            (false, _) => expression.sql.clone(),
            (true, true) => format!("md5({})", expression.sql),
            (true, false) => format!("md5(({})::text)", expression.sql),
        });
        format!("ROW({})::text", expressions.collect::<Vec<_>>().join(", "))
    }

    fn is_keyed(&self) -> bool {
        !self.pair.key.is_empty()
    }

    /// A number that says which bucket a row is in, where that needs no more than its key.
    fn key_hash(&self) -> String {
        let columns: Vec<&str> = self.reads().key.iter().map(|column| column.comparable.as_str()).collect();
        self.hashing.key(&format!("ROW({})::text", columns.join(", ")))
    }

    fn key_array(&self) -> String {
        let columns: Vec<String> =
            self.reads().key.iter().map(|column| format!("({})::text", column.comparable)).collect();
        format!("ARRAY[{}]::text[]", columns.join(", "))
    }

    fn condition(&self, slice: Slice, more: Option<String>) -> String {
        let mut all: Vec<String> = Vec::new();
        match slice {
            Slice::All => {}
            Slice::Pages(from, to) => {
                all.push(format!("t.ctid >= '({from},0)'::tid"));
                all.extend(to.map(|to| format!("t.ctid < '({to},0)'::tid")));
            }
            Slice::Share(number, of) => all.push(format!("({} & {}) = {number}", self.key_hash(), of - 1)),
        }
        all.extend(self.reads().filter.as_ref().map(|filter| format!("({filter})")));
        all.extend(more);
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
    }

    /// Only how many rows there are.
    pub fn count(&self, from: &str, slice: Slice) -> String {
        format!("SELECT 0, count(*), '0', '0' FROM {from} AS t{}", self.condition(slice, None))
    }

    pub fn sums(&self, from: &str, slice: Slice) -> String {
        let [first, second] = self.hashing.pair("x.r");
        let mask = self.pair.buckets - 1;
        let bucket = if self.is_keyed() { "y.k" } else { "y.h1" };
        let key = if self.is_keyed() { self.key_hash() } else { "0::int8".to_owned() };
        format!(
            "SELECT ({bucket} & {mask})::int4, count(*), sum(y.h1)::text, sum(y.h2)::text FROM (\
             SELECT x.k, {first} AS h1, {second} AS h2 FROM (\
             SELECT {key} AS k, {row} AS r FROM {from} AS t{condition} OFFSET 0) AS x OFFSET 0) AS y GROUP BY 1",
            row = self.hashing.prepared(&self.row_text()),
            condition = self.condition(slice, None),
        )
    }

    /// Rows of some buckets (`None`: of all), in the order in which both sides can be merged if `sorted`.
    pub fn entries(&self, from: &str, slice: Slice, buckets: Option<&[u32]>, sorted: bool) -> String {
        let chosen = |number: &str| buckets.map(|buckets| self.bucket_condition(number, buckets));
        let (inside, outside, order) = if self.is_keyed() {
            (chosen(&self.key_hash()), None, "y.k")
        } else {
            (None, chosen("y.h1"), "y.h1")
        };
        let mut sql = self.entry_query(&format!("{from} AS t"), slice, inside, order);
        if let Some(outside) = outside {
            sql.push_str(&format!(" WHERE {outside}"));
        }
        if sorted {
            sql.push_str(" ORDER BY 1");
        }
        sql
    }

    /// The rows whose keys are in the parameters: one array of text for each key column. `nulls` says which columns of
    /// those keys can be NULL.
    pub fn by_key(&self, nulls: &[bool]) -> String {
        let (wanted, condition) = self.join_on_keys(nulls);
        let from = format!("{} AS t, {wanted}", self.reads().relation.clause());
        self.entry_query(&from, Slice::All, Some(condition), "y.k")
    }

    /// The key and all columns as text, of the rows whose keys are in the parameters.
    pub fn values_by_key(&self, nulls: &[bool]) -> String {
        let (wanted, condition) = self.join_on_keys(nulls);
        let from = format!("{} AS t, {wanted}", self.reads().relation.clause());
        format!(
            "SELECT {}, {} FROM {from}{}",
            self.key_array(),
            self.value_array(),
            self.condition(Slice::All, Some(condition))
        )
    }

    /// The place and all columns as text, of the rows whose places are in the parameter.
    pub fn values_by_place(&self) -> String {
        let relation = &self.reads().relation;
        format!(
            "SELECT {place}, {values} FROM {from} AS t WHERE {place} = ANY ($1::text[])",
            place = relation.place(),
            values = self.value_array(),
            from = relation.clause(),
        )
    }

    fn value_array(&self) -> String {
        let columns: Vec<String> =
            self.pair.columns.iter().map(|name| format!("t.{}::text", pg::quote_ident(name))).collect();
        format!("ARRAY[{}]::text[]", columns.join(", "))
    }

    fn join_on_keys(&self, nulls: &[bool]) -> (String, String) {
        let keys = &self.reads().key;
        let arrays: Vec<String> = (1..=keys.len()).map(|n| format!("${n}::text[]")).collect();
        let names: Vec<String> = (0..keys.len()).map(|n| format!("k{n}")).collect();
        let wanted =
            format!("(SELECT DISTINCT * FROM unnest({}) AS w({})) AS w", arrays.join(", "), names.join(", "));
        let conditions = keys.iter().enumerate().map(|(n, key)| {
            let equal = format!(
                "{} OPERATOR({}.=) w.k{n}::{}",
                key.column,
                pg::quote_ident(&key.equality),
                key.r#type
            );
            if nulls.get(n).copied().unwrap_or(false) {
                format!("({equal} OR ({} IS NOT DISTINCT FROM NULL AND w.k{n} IS NULL))", key.column)
            } else {
                equal
            }
        });
        (wanted, conditions.collect::<Vec<_>>().join(" AND "))
    }

    fn entry_query(&self, from: &str, slice: Slice, more: Option<String>, order: &str) -> String {
        let [first, second] = self.hashing.pair("x.r");
        let (hash, key) = if self.is_keyed() {
            (self.key_hash(), self.key_array())
        } else {
            ("0::int8".to_owned(), "NULL::text[]".to_owned())
        };
        format!(
            "SELECT {order}, y.h1, y.h2, y.key, y.place FROM (\
             SELECT x.k, {first} AS h1, {second} AS h2, x.key, x.place FROM (\
             SELECT {hash} AS k, {row} AS r, {key} AS key, {place} AS place FROM {from}{condition} OFFSET 0) AS x OFFSET 0) AS y",
            row = self.hashing.prepared(&self.row_text()),
            place = self.reads().relation.place(),
            condition = self.condition(slice, more),
        )
    }

    /// A long list is joined: before 14 a list is searched from its start for every row.
    fn bucket_condition(&self, number: &str, buckets: &[u32]) -> String {
        let list: Vec<String> = buckets.iter().map(u32::to_string).collect();
        let mask = self.pair.buckets - 1;
        let list = list.join(",");
        if buckets.len() <= 16 {
            format!("({number} & {mask}) = ANY ('{{{list}}}'::int8[])")
        } else {
            format!("({number} & {mask}) IN (SELECT unnest('{{{list}}}'::int8[]))")
        }
    }
}
