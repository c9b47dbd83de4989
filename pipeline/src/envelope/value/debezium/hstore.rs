//! hstore: `"k"=>"v", "n"=>NULL` (<https://www.postgresql.org/docs/current/hstore.html>).

use super::Wrong;
use crate::envelope::json;
use crate::envelope::json::read::Value;

const MALFORMED: Wrong = "a malformed hstore";

/// Appends an hstore as a JSON object.
pub(super) fn write(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    out.push(b'{');
    let mut rest = text;
    while !rest.is_empty() {
        let key = quoted(&mut rest)?;
        json::string(out, &key);
        out.push(b':');
        rest = rest.strip_prefix(b"=>").ok_or(MALFORMED)?;
        if let Some(after) = rest.strip_prefix(b"NULL") {
            out.extend_from_slice(b"null");
            rest = after;
        } else {
            let value = quoted(&mut rest)?;
            json::string(out, &value);
        }
        if let Some(after) = rest.strip_prefix(b", ") {
            out.push(b',');
            rest = after;
        } else if !rest.is_empty() {
            return Err(MALFORMED);
        }
    }
    out.push(b'}');
    Ok(())
}

fn quoted(text: &mut &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut bytes = text.strip_prefix(b"\"").ok_or(MALFORMED)?.iter();
    let mut value = Vec::new();
    loop {
        match bytes.next().ok_or(MALFORMED)? {
            b'"' => break,
            b'\\' => value.push(*bytes.next().ok_or(MALFORMED)?),
            byte => value.push(*byte),
        }
    }
    *text = bytes.as_slice();
    Ok(value)
}

pub(super) fn read(value: &Value<'_>) -> Result<String, Wrong> {
    let Value::Object(members) = value else { return Err("an hstore that is no object") };
    let mut out = String::new();
    let quote = |out: &mut String, text: &str| {
        out.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    };
    for (at, (name, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        quote(&mut out, name);
        out.push_str("=>");
        match value {
            Value::Null => out.push_str("NULL"),
            Value::String(text) => quote(&mut out, text),
            _ => return Err("an hstore with a value that is no string"),
        }
    }
    Ok(out)
}
