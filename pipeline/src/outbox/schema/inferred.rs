//! The schema of an expanded payload, by Debezium's rules, and the payload as that schema has it.
//!
//! | JSON | schema |
//! |---|---|
//! | true, "x" | boolean, string |
//! | a whole number | int32, int64, or double, whichever is large enough |
//! | another number | double |
//! | object | struct, named by its path: `payload.items` |
//! | array | array; its elements' schema is that of the first one, of objects what all of them have together |
//! | null | none, so it is left out; with `optional_bytes` bytes |
//! | empty array | none |
//!
//! Everything is optional. What has no schema by these rules (an array of several types) is [`Unfit`], and then the whole payload stays the text
//! that it was. Objects of one array may differ where Debezium's router gives up or drops members: their schemas are united, and numbers
//! have the larger type.

use std::collections::HashMap;

use super::super::json;
use super::super::options::Nulls;
use crate::envelope::json::read;

type Node<'v> = read::Value<'v>;

/// A schema has the whole path of names in each of its structs: a payload of 1 MB can have one of many GB.
const LARGEST: usize = 16 << 20;

/// What is wrong with a payload. Never quotes it.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::outbox) enum InferError {
    #[error("{0}")]
    Json(#[from] read::JsonError),
    #[error("its schema would be larger than {LARGEST} bytes")]
    Large,
}

/// There is no schema for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unfit;

/// What a payload of JSON becomes.
pub(in crate::outbox) enum Inferred {
    /// A value with a schema of its own: the schema without braces, and JSON.
    Value { schema: String, value: Vec<u8> },
    /// The text that it was, because no schema says what it is.
    Text,
    /// The same, of an empty array: Debezium's router leaves it without any schema.
    Empty,
}

#[derive(Clone, PartialEq, Debug)]
enum Schema {
    Boolean,
    Int32,
    Int64,
    Double,
    String,
    /// Of what is null wherever it is.
    Bytes,
    Array(Box<Schema>),
    Struct(Struct),
}

#[derive(Clone, PartialEq, Debug)]
struct Struct {
    optional: bool,
    fields: Vec<(String, Schema)>,
}

/// Infers `text`'s schema; `path` names its structs. `scalars`: one that is no object and no array has a schema as well.
///
/// # Errors
/// `text` is no JSON, or its schema is too large for anybody.
pub(in crate::outbox) fn infer(
    text: &[u8],
    path: &str,
    nulls: Nulls,
    scalars: bool,
) -> Result<Inferred, InferError> {
    let node = Node::read_within(text, json::DEPTH)?;
    if !scalars && !matches!(node, Node::Object(_) | Node::Array(_)) {
        return Ok(Inferred::Text);
    }
    let schema = match of(&node, nulls) {
        Ok(Some(schema)) => schema,
        Ok(None) => return Ok(Inferred::Empty),
        Err(Unfit) => return Ok(Inferred::Text),
    };
    let mut writer = Writer { out: String::new(), path: path.to_owned() };
    writer.schema(&schema)?;
    let mut value = Vec::with_capacity(text.len());
    put(&mut value, &node, &schema);
    Ok(Inferred::Value { schema: writer.out, value })
}

/// None: left out.
fn of(node: &Node<'_>, nulls: Nulls) -> Result<Option<Schema>, Unfit> {
    Ok(Some(match node {
        Node::Null if nulls == Nulls::OptionalBytes => Schema::Bytes,
        Node::Null => return Ok(None),
        Node::Bool(_) => Schema::Boolean,
        Node::String(_) => Schema::String,
        Node::Number(text) if text.parse::<i32>().is_ok() => Schema::Int32,
        Node::Number(text) if text.parse::<i64>().is_ok() => Schema::Int64,
        Node::Number(_) => Schema::Double,
        Node::Array(elements) if elements.is_empty() => return Ok(None),
        Node::Array(elements) => Schema::Array(Box::new(of_elements(elements, nulls)?)),
        Node::Object(members) => {
            let mut fields = Vec::with_capacity(members.len());
            for (name, value) in last_of_each(members) {
                if let Some(schema) = of(value, nulls)? {
                    // Kafka Connect has no field without a name.
                    if name.is_empty() {
                        return Err(Unfit);
                    }
                    fields.push((name.to_owned(), schema));
                }
            }
            Schema::Struct(Struct { optional: true, fields })
        }
    }))
}

/// Of two members with one name the last one counts, in the place of the first.
fn last_of_each<'n, 'v>(
    members: &'n [(std::borrow::Cow<'v, str>, Node<'v>)],
) -> Vec<(&'n str, &'n Node<'v>)> {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(members.len());
    let mut found: Vec<(&str, &Node<'v>)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        match places.get(&**name) {
            Some(&at) => found[at].1 = value,
            None => {
                places.insert(name, found.len());
                found.push((&**name, value));
            }
        }
    }
    found
}

/// Of an array that has some.
fn of_elements(elements: &[Node<'_>], nulls: Nulls) -> Result<Schema, Unfit> {
    let there: Vec<&Node<'_>> = elements.iter().filter(|element| !element.is_null()).collect();
    let Some((first, others)) = there.split_first() else { return of(&Node::Null, nulls)?.ok_or(Unfit) };
    let kind = std::mem::discriminant::<Node<'_>>(first);
    if others.iter().any(|element| std::mem::discriminant::<Node<'_>>(element) != kind) {
        return Err(Unfit);
    }
    let mut schema = of(first, nulls)?.ok_or(Unfit)?;
    let mut differ = false;
    for other in others.iter().filter(|element| !is_hollow(element)) {
        let Some(other) = of(other, nulls)? else { continue };
        if schema == other {
            continue;
        }
        // Numbers that differ in type are no array of Debezium's.
        if matches!(first, Node::Number(_)) {
            return Err(Unfit);
        }
        differ = true;
        unite(&mut schema, other)?;
    }
    if let Schema::Struct(united) = &mut schema
        && differ
        && there.len() == elements.len()
    {
        // Debezium forgets that it was optional when it unites structs.
        united.optional = false;
    }
    Ok(schema)
}

/// An array without a value in it says nothing about its elements.
fn is_hollow(node: &Node<'_>) -> bool {
    match node {
        Node::Array(elements) => elements.iter().all(|element| element.is_null() || is_hollow(element)),
        _ => false,
    }
}

/// Makes `schema` one that both values fit.
fn unite(schema: &mut Schema, other: Schema) -> Result<(), Unfit> {
    match (&mut *schema, other) {
        (this, other) if *this == other => {}
        (_, Schema::Bytes) => {}
        (this @ Schema::Bytes, other) => *this = other,
        (Schema::Array(inner), Schema::Array(other)) => unite(inner, *other)?,
        (Schema::Struct(this), Schema::Struct(other)) => {
            let mut places: HashMap<String, usize> =
                this.fields.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
            for (name, inner) in other.fields {
                match places.get(&name) {
                    Some(&at) => unite(&mut this.fields[at].1, inner)?,
                    None => {
                        places.insert(name.clone(), this.fields.len());
                        this.fields.push((name, inner));
                    }
                }
            }
        }
        (this, other) => match (this.rank(), other.rank()) {
            (Some(ours), Some(theirs)) if theirs > ours => *this = other,
            (Some(_), Some(_)) => {}
            _ => return Err(Unfit),
        },
    }
    Ok(())
}

impl Schema {
    /// Of numbers, the larger the more it holds.
    fn rank(&self) -> Option<u8> {
        match self {
            Schema::Int32 => Some(0),
            Schema::Int64 => Some(1),
            Schema::Double => Some(2),
            _ => None,
        }
    }
}

/// Schemas without braces, as JSON.
struct Writer {
    out: String,
    /// Names down to here; empty: within an array of arrays, whose elements have no name.
    path: String,
}

impl Writer {
    fn schema(&mut self, schema: &Schema) -> Result<(), InferError> {
        let simple = match schema {
            Schema::Boolean => "boolean",
            Schema::Int32 => "int32",
            Schema::Int64 => "int64",
            Schema::Double => "double",
            Schema::String => "string",
            Schema::Bytes => "bytes",
            Schema::Array(inner) => return self.array(inner),
            Schema::Struct(fields) => return self.fields(fields),
        };
        self.out.push_str(&format!("\"type\":\"{simple}\",\"optional\":true"));
        Ok(())
    }

    fn array(&mut self, inner: &Schema) -> Result<(), InferError> {
        self.out.push_str("\"type\":\"array\",\"items\":{");
        if matches!(inner, Schema::Array(_)) {
            let path = std::mem::take(&mut self.path);
            self.schema(inner)?;
            self.path = path;
        } else {
            self.schema(inner)?;
        }
        self.out.push_str("},\"optional\":true");
        Ok(())
    }

    fn fields(&mut self, schema: &Struct) -> Result<(), InferError> {
        self.out.push_str("\"type\":\"struct\",\"fields\":[");
        let length = self.path.len();
        for (at, (name, inner)) in schema.fields.iter().enumerate() {
            if self.out.len() > LARGEST {
                return Err(InferError::Large);
            }
            self.out.push_str(if at > 0 { ",{" } else { "{" });
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            self.schema(inner)?;
            self.path.truncate(length);
            self.out.push_str(&format!(",\"field\":{}}}", super::text(name.as_bytes())));
        }
        self.out.push_str(&format!("],\"optional\":{}", schema.optional));
        if !self.path.is_empty() {
            self.out.push_str(&format!(",\"name\":{}", super::text(self.path.as_bytes())));
        }
        Ok(())
    }
}

/// Appends a value as its schema has it: a struct has all of its fields.
fn put(out: &mut Vec<u8>, node: &Node<'_>, schema: &Schema) {
    match (node, schema) {
        (Node::Object(members), Schema::Struct(Struct { fields, .. })) => {
            let values: HashMap<&str, &Node<'_>> =
                members.iter().map(|(name, value)| (&**name, value)).collect();
            out.push(b'{');
            for (at, (name, inner)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json::string(out, name.as_bytes());
                out.push(b':');
                put(out, values.get(&**name).unwrap_or(&&Node::Null), inner);
            }
            out.push(b'}');
        }
        (Node::Array(elements), Schema::Array(inner)) => {
            out.push(b'[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                put(out, element, inner);
            }
            out.push(b']');
        }
        (Node::Bool(is), _) => out.extend_from_slice(if *is { b"true" } else { b"false" }),
        // An integer has no sign of its own for nothing.
        (Node::Number("-0"), Schema::Int32 | Schema::Int64) => out.push(b'0'),
        (Node::Number(text), _) => out.extend_from_slice(text.as_bytes()),
        (Node::String(text), _) => json::string(out, text.as_bytes()),
        // What is not null has been united with the schema.
        _ => out.extend_from_slice(b"null"),
    }
}
