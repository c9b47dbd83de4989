//! The router's options, under the names and with the defaults of Debezium's.

use crate::envelope::{self, TableTypes, Values};

use super::placement::{ID, Place, Placement, is_ours};
use super::route::{Route, may_be_topic, not_a_topic};

/// How a key or a value becomes bytes: what Kafka Connect calls a converter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// JSON: a text becomes a JSON string.
    Json,
    /// The text itself.
    String,
    /// The bytes of a bytea, the text of everything else.
    Bytes,
}

/// `table.json.payload.null.behavior`: members of an expanded payload that are null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nulls {
    Ignore,
    OptionalBytes,
}

/// `table.op.invalid.behavior`: an UPDATE of an outbox row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidOperation {
    Warn,
    Error,
    Fatal,
}

/// `table.field.additional.missing`: a column of the placement list that the table does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MissingField {
    Error,
    Ignore,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub id: String,
    pub key: String,
    pub event_type: String,
    pub payload: String,
    pub timestamp: Option<String>,
    pub schema_version: Option<String>,
    pub placements: Vec<Placement>,
    pub missing: MissingField,
    pub expand: bool,
    pub nulls: Nulls,
    pub invalid: InvalidOperation,
    pub route_by: String,
    pub route: Route,
    /// A null or empty payload is a message without a value.
    pub tombstone: bool,
    pub key_format: Format,
    pub value_format: Format,
    /// Keys of [`Format::Json`] are `{"schema":…,"payload":…}`.
    pub key_schemas: bool,
    /// Values of [`Format::Json`] are.
    pub value_schemas: bool,
    /// The topic of a logical message: `${prefix}` and `${routedByValue}` stand for themselves.
    pub message_topic: String,
    /// How values of other columns are written.
    pub envelope: envelope::Options,
}

impl Options {
    pub const ID: &'static str = "id";
    pub const KEY: &'static str = "aggregateid";
    pub const TYPE: &'static str = "type";
    pub const PAYLOAD: &'static str = "payload";
    pub const ROUTE_BY: &'static str = "aggregatetype";
    pub const MESSAGE_TOPIC: &'static str = "${prefix}.${routedByValue}";

    /// Everything at its default.
    ///
    /// # Panics
    /// Never: the default route compiles.
    #[must_use]
    pub fn new(envelope: envelope::Options) -> Options {
        let route = Route::new(Route::REGEX, Route::REPLACEMENT);
        #[allow(clippy::expect_used)]
        let route = route.expect("the default route compiles");
        Options {
            id: Options::ID.to_owned(),
            key: Options::KEY.to_owned(),
            event_type: Options::TYPE.to_owned(),
            payload: Options::PAYLOAD.to_owned(),
            timestamp: None,
            schema_version: None,
            placements: Vec::new(),
            missing: MissingField::Error,
            expand: false,
            nulls: Nulls::Ignore,
            invalid: InvalidOperation::Warn,
            route_by: Options::ROUTE_BY.to_owned(),
            route,
            tombstone: false,
            key_format: Format::String,
            value_format: Format::Json,
            key_schemas: false,
            value_schemas: false,
            message_topic: Options::MESSAGE_TOPIC.to_owned(),
            envelope,
        }
    }

    /// Usual names for what was left at its default and the table does not have: `aggregate_id` for `aggregateid` and so on.
    pub fn adapt(&mut self, table: &TableTypes) {
        for (name, default, usual) in [
            (&mut self.key, Options::KEY, "aggregate_id"),
            (&mut self.route_by, Options::ROUTE_BY, "aggregate_type"),
            (&mut self.event_type, Options::TYPE, "event_type"),
        ] {
            if name == default && table.column(default).is_none() && table.column(usual).is_some() {
                usual.clone_into(name);
            }
        }
    }

    pub(super) fn has_envelope(&self) -> bool {
        self.placements.iter().any(|placement| placement.place == Place::Envelope)
    }

    /// What does not fit together, or not to the table: each with the option's name and what it expects.
    #[must_use]
    pub fn problems(&self, table: Option<&TableTypes>) -> Vec<String> {
        let mut problems = Vec::new();
        if self.has_envelope() && self.value_format != Format::Json {
            problems.push(
                "table.fields.additional.placement: an envelope needs value.converter = \"json\"".to_owned(),
            );
        }
        if self.expand && self.value_format == Format::Bytes {
            problems
                .push("table.expand.json.payload: needs value.converter = \"json\" or \"string\"".to_owned());
        }
        if self.placements.iter().filter(|placement| placement.place == Place::Partition).count() > 1 {
            problems
                .push("table.fields.additional.placement: expected one column for the partition".to_owned());
        }
        // The event's id once more, in its own column's name, is no other one.
        let other = |placement: &&Placement| {
            placement.place == Place::Header
                && is_ours(&placement.alias)
                && !(placement.alias == ID && placement.column == self.id)
        };
        if let Some(placement) = self.placements.iter().find(other) {
            problems.push(format!(
                "table.fields.additional.placement: header \"{}\" is the event's own, by which consumers know it again: give column \"{}\" \
                 another alias",
                placement.alias, placement.column
            ));
        }
        let literal = self.message_topic.replace("${prefix}", "").replace("${routedByValue}", "");
        if !may_be_topic(&literal, literal == self.message_topic) {
            problems
                .push(format!("{}; ${{prefix}} and ${{routedByValue}}", not_a_topic("outbox.message_topic")));
        }
        let Some(table) = table else { return problems };
        let mut column =
            |option: &str, name: &str, expects: &str, fits: &dyn Fn(&str) -> bool| match table.column(name) {
                None => problems.push(format!("{option}: table {} has no column \"{name}\"", table.name)),
                Some(found) if found.array || !fits(&found.base_name) => problems.push(format!(
                    "{option}: expected {expects}, column \"{name}\" of table {} is {}{}",
                    table.name,
                    found.base_name,
                    if found.array { "[]" } else { "" }
                )),
                Some(_) => {}
            };
        let any = |_: &str| true;
        column("table.field.event.id", &self.id, "a scalar", &any);
        column("table.field.event.key", &self.key, "a scalar", &any);
        column("route.by.field", &self.route_by, "a text", &|name| {
            is_text(name) || self.envelope.values == Values::Postgres
        });
        if self.expand {
            column(
                "table.field.event.payload",
                &self.payload,
                "text, json or jsonb (table.expand.json.payload is on)",
                &|name| is_text(name) || matches!(name, "json" | "jsonb"),
            );
        } else if table.column(&self.payload).is_none() {
            column("table.field.event.payload", &self.payload, "", &any);
        }
        if let Some(name) = &self.timestamp {
            column("table.field.event.timestamp", name, "timestamp or timestamptz", &|name| {
                matches!(name, "timestamp" | "timestamptz")
            });
        }
        if let Some(name) = &self.schema_version {
            column("table.field.event.schema.version", name, "an integer", &is_integer);
        }
        for placement in &self.placements {
            if table.column(&placement.column).is_none() && self.missing == MissingField::Ignore {
                continue;
            }
            match placement.place {
                Place::Partition => {
                    column("table.fields.additional.placement", &placement.column, "an integer", &is_integer);
                }
                Place::Header | Place::Envelope if table.column(&placement.column).is_none() => {
                    column("table.fields.additional.placement", &placement.column, "", &any);
                }
                Place::Header | Place::Envelope => {}
            }
        }
        problems
    }
}

fn is_text(name: &str) -> bool {
    matches!(name, "text" | "varchar" | "bpchar" | "citext" | "name")
}

fn is_integer(name: &str) -> bool {
    matches!(name, "int2" | "int4" | "int8")
}
