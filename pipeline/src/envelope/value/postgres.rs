//! `values = "postgres"`: JSON's own kinds where they lose nothing, PostgreSQL's text everywhere else.

use std::borrow::Cow;

use crate::envelope::json;
use crate::envelope::json::read::Value;

/// The kind of JSON that a column's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::envelope) enum Plain {
    Bool,
    /// int2, int4, int8.
    Integer,
    /// float4, float8: the server's shortest form, or a string for NaN and the infinities.
    Float,
    Text,
}

impl Plain {
    pub(super) fn of(type_id: u32) -> Plain {
        match type_id {
            16 => Plain::Bool,
            20 | 21 | 23 => Plain::Integer,
            700 | 701 => Plain::Float,
            _ => Plain::Text,
        }
    }

    /// Appends `text`. What is not of the expected form becomes a string: nothing is lost, and the text comes back as it was.
    pub(super) fn write(self, out: &mut Vec<u8>, text: &[u8]) {
        match self {
            Plain::Bool if text == b"t" => out.extend_from_slice(b"true"),
            Plain::Bool if text == b"f" => out.extend_from_slice(b"false"),
            Plain::Integer | Plain::Float if json::is_number(text) => out.extend_from_slice(text),
            _ => json::string(out, text),
        }
    }

    /// The text that was written as `value`; None: NULL. By the JSON alone: every kind has one text.
    pub(super) fn read<'v>(value: &'v Value<'_>) -> Result<Option<Cow<'v, [u8]>>, &'static str> {
        Ok(Some(Cow::Borrowed(match value {
            Value::Null => return Ok(None),
            Value::Bool(true) => b"t",
            Value::Bool(false) => b"f",
            Value::Number(text) => text.as_bytes(),
            Value::String(text) => text.as_bytes(),
            Value::Array(_) | Value::Object(_) => return Err("neither a string nor a number nor a boolean"),
        })))
    }
}
