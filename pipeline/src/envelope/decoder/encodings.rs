//! The header `walferry.types`: how the columns of an event were written.
//!
//! It travels with the event because the reader and the writer of topics stand at different places of the stream: neither knows by its own
//! look at a catalogue which DDL an event was before or behind.

use std::collections::HashMap;

use pg::Result;

use super::{COLUMNS, malformed};
use crate::envelope::header;
use crate::envelope::json::read::Value;
use crate::envelope::value::Codec;

/// The columns that it names. What it leaves out says by its JSON what it is; it may name columns that the event has not.
pub(super) fn read(text: &str) -> Result<HashMap<String, Codec>> {
    let wrong = |what: &str| malformed(format!("header {}: {what}", header::TYPES));
    let Ok(Value::Object(members)) = Value::read(text.as_bytes()) else {
        return Err(wrong("not a JSON object"));
    };
    if members.len() > COLUMNS {
        return Err(wrong(&format!("more than {COLUMNS} columns")));
    }
    let mut codecs = HashMap::with_capacity(members.len());
    for (name, encoding) in members {
        let Some(codec) = encoding.as_str().and_then(Codec::named) else {
            return Err(wrong(&format!("the encoding of column \"{name}\" is not known")));
        };
        if codecs.contains_key(&*name) {
            return Err(wrong(&format!("column \"{name}\" twice")));
        }
        codecs.insert(name.into_owned(), codec);
    }
    Ok(codecs)
}
