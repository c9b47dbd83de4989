//! Members and headers, with errors that name them.

use pg::{Lsn, Result};

use super::{malformed, missing};
use crate::envelope::decoded::{Place, Record};
use crate::envelope::header;
use crate::envelope::json::read::Value;
use crate::envelope::message::Position;

/// Members that must be there.
pub(super) trait Fields<'a> {
    fn member(&self, name: &str) -> Result<&Value<'a>>;
    fn text(&self, name: &str) -> Result<&str>;
    fn whole<T: std::str::FromStr>(&self, name: &str) -> Result<T>;
    /// None: null, or not there.
    fn optional(&self, name: &str) -> Option<&Value<'a>>;
}

impl<'a> Fields<'a> for Value<'a> {
    fn member(&self, name: &str) -> Result<&Value<'a>> {
        self.get(name).ok_or_else(|| missing(name))
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.member(name)?.as_str().ok_or_else(|| malformed(format!("\"{name}\" is not a string")))
    }

    fn whole<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.member(name)?
            .number()
            .ok_or_else(|| malformed(format!("\"{name}\" is not a number of its range")))
    }

    fn optional(&self, name: &str) -> Option<&Value<'a>> {
        self.get(name).filter(|value| !value.is_null())
    }
}

/// A header's text.
pub(super) fn header<'a>(record: &Record<'a>, name: &str) -> Result<Option<&'a str>> {
    let found = record.headers.iter().find(|(other, _)| *other == name);
    found
        .map(|(_, value)| {
            std::str::from_utf8(value).map_err(|_| malformed(format!("header {name} is not UTF-8")))
        })
        .transpose()
}

fn parsed<T: std::str::FromStr>(record: &Record<'_>, name: &str) -> Result<Option<T>> {
    let parse = |text: &str| text.parse().map_err(|_| malformed(format!("header {name} does not parse")));
    header(record, name)?.map(parse).transpose()
}

pub(super) fn position(record: &Record<'_>) -> Result<Option<Position>> {
    parsed(record, header::POSITION)
}

pub(super) fn epoch(record: &Record<'_>) -> Result<Option<u64>> {
    parsed(record, header::EPOCH)
}

pub(super) fn lsn(record: &Record<'_>, name: &str) -> Result<Option<Lsn>> {
    parsed(record, name)
}

pub(super) fn micros(record: &Record<'_>, name: &str) -> Result<Option<i64>> {
    parsed(record, name)
}

/// The block `transaction`.
pub(super) fn place(value: &Value<'_>) -> Result<Option<Place>> {
    let Some(block) = value.optional("transaction") else { return Ok(None) };
    Ok(Some(Place {
        id: block.text("id")?.to_owned(),
        total_order: block.whole("total_order")?,
        data_collection_order: block.whole("data_collection_order")?,
    }))
}
