//! Which keys changes touched, for the last check of a cutover: only those rows are compared under the fence.

use std::collections::{HashMap, HashSet};

use pg::QualifiedName;
use pipeline::{Change, Column, Tuple};

use super::execute::key_values;
use super::piece::Piece;
use super::tables::Tables;
use super::target::Target;

/// Keys noted per table before the whole table counts as touched.
const LIMIT: usize = 50_000;

/// The keys of one table; texts in the order of the key's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TouchedKeys {
    Keys {
        columns: Vec<String>,
        keys: HashSet<Vec<String>>,
    },
    /// Too many, without a key, or truncated: compare all of it.
    Whole,
}

/// What was touched, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched(pub HashMap<QualifiedName, TouchedKeys>);

/// Notes what is touched while it is told to.
#[derive(Default)]
pub struct Recorder {
    touched: Option<Touched>,
    overwritten: HashSet<QualifiedName>,
    missing: HashSet<QualifiedName>,
}

impl Recorder {
    pub fn set(&mut self, on: bool) {
        self.touched = on.then(Touched::default);
    }

    /// What was touched since it was switched on, or since the last call; none: it is off.
    pub fn take(&mut self) -> Option<Touched> {
        self.touched.as_mut().map(std::mem::take)
    }

    /// Is this the first row of the table that was overwritten?
    pub fn first_overwrite(&mut self, table: &QualifiedName) -> bool {
        self.overwritten.insert(table.clone())
    }

    /// Is this the first row of the table that was not found?
    pub fn first_missing(&mut self, table: &QualifiedName) -> bool {
        self.missing.insert(table.clone())
    }

    pub fn note(&mut self, piece: &Piece, tables: &mut Tables) {
        let Some(touched) = &mut self.touched else { return };
        for (commit_lsn, change) in piece.positions() {
            match change {
                Change::Insert { relation, new } => {
                    if let Some(target) = tables.target(relation, commit_lsn) {
                        touched.note(&target, new);
                    }
                }
                Change::Update { relation, old, new } => {
                    if let Some(target) = tables.target(relation, commit_lsn) {
                        touched.note(&target, new);
                        if let Some(old) = old {
                            touched.note(&target, old.tuple());
                        }
                    }
                }
                Change::Delete { relation, old } => {
                    if let Some(target) = tables.target(relation, commit_lsn) {
                        touched.note(&target, old.tuple());
                    }
                }
                Change::Truncate { relations, .. } => {
                    for relation in relations {
                        if let Some(target) = tables.target(relation, commit_lsn) {
                            touched.0.insert(target.name.clone(), TouchedKeys::Whole);
                        }
                    }
                }
            }
        }
    }
}

impl Touched {
    fn note(&mut self, target: &Target, tuple: &Tuple) {
        let entry = self.0.entry(target.name.clone()).or_insert_with(|| TouchedKeys::Keys {
            columns: target.key.iter().map(|&index| target.relation.columns[index].name.clone()).collect(),
            keys: HashSet::new(),
        });
        let TouchedKeys::Keys { keys, .. } = entry else { return };
        let key: Option<Vec<String>> = key_values(target, tuple.columns())
            .into_iter()
            .zip(&target.key)
            .map(|(value, &index)| match value {
                Column::Text(bytes) => String::from_utf8(bytes.to_vec()).ok(),
                Column::Binary(bytes) => text_of(target.columns[index].type_id, bytes),
                Column::Null | Column::Unchanged => None,
            })
            .collect();
        match key {
            Some(key) if !key.is_empty() && keys.len() < LIMIT => {
                keys.insert(key);
            }
            _ => *entry = TouchedKeys::Whole,
        }
    }
}

/// The text of a value that came in binary, for the types that keys have; `None` for any other.
fn text_of(type_id: u32, bytes: &[u8]) -> Option<String> {
    Some(match type_id {
        16 => if bytes == [1] { "t" } else { "f" }.to_owned(),
        20 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        21 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        26 => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        2950 if bytes.len() == 16 => uuid(bytes),
        1082 => date(i64::from(i32::from_be_bytes(bytes.try_into().ok()?)))?,
        1114 => timestamp(i64::from_be_bytes(bytes.try_into().ok()?))?,
        1184 => timestamp(i64::from_be_bytes(bytes.try_into().ok()?))? + "+00",
        // name, text, bpchar, varchar, and an enum's label
        19 | 25 | 1042 | 1043 => String::from_utf8(bytes.to_vec()).ok()?,
        users if users >= 16384 => String::from_utf8(bytes.to_vec()).ok()?,
        _ => return None,
    })
}

fn uuid(bytes: &[u8]) -> String {
    let hex =
        |(n, byte): (usize, &u8)| format!("{}{byte:02x}", if matches!(n, 4 | 6 | 8 | 10) { "-" } else { "" });
    bytes.iter().enumerate().map(hex).collect()
}

/// A day counted from 2000-01-01, between the years 1 and 9999.
fn date(day: i64) -> Option<String> {
    // Days of the proleptic Gregorian calendar since 0000-03-01, in cycles of 400 years.
    let days = day + 730_425;
    let (cycle, of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (of_month, month) = (of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (1..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{of_month:02}"))
}

/// Microseconds counted from 2000-01-01.
fn timestamp(at: i64) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    let (day, of_day) = (date(at.div_euclid(DAY))?, at.rem_euclid(DAY));
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    Some(format!("{day} {:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_binary_are_told_as_text() {
        assert_eq!(text_of(20, &(-5i64).to_be_bytes()).as_deref(), Some("-5"));
        assert_eq!(text_of(25, b"x y").as_deref(), Some("x y"));
        assert_eq!(text_of(2950, &[0xab; 16]).as_deref(), Some("abababab-abab-abab-abab-abababababab"));
        assert_eq!(text_of(1082, &0i32.to_be_bytes()).as_deref(), Some("2000-01-01"));
        assert_eq!(text_of(1082, &59i32.to_be_bytes()).as_deref(), Some("2000-02-29"));
        assert_eq!(text_of(1082, &(-1i32).to_be_bytes()).as_deref(), Some("1999-12-31"));
        assert_eq!(text_of(1082, &8766i32.to_be_bytes()).as_deref(), Some("2024-01-01"));
        let at = 757_382_400_000_000i64 + 3_723_000_004;
        assert_eq!(text_of(1184, &at.to_be_bytes()).as_deref(), Some("2024-01-01 01:02:03.000004+00"));
        assert_eq!(text_of(1114, &i64::MAX.to_be_bytes()), None, "infinity");
        assert_eq!(text_of(1700, b""), None);
    }
}
