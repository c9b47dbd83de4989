//! The keys of the outbox.

use std::time::Duration;

use crate::config::component::component;
use crate::config::value::choice;

choice! {
    /// How a key or a value becomes bytes (Kafka Connect's JsonConverter, StringConverter, ByteArrayConverter).
    pub enum Converter {
        Json = "json",
        String = "string",
        Bytes = "bytes",
    }
}

choice! {
    /// What an UPDATE of an outbox row does.
    pub enum InvalidOperation {
        Warn = "warn",
        Error = "error",
        Fatal = "fatal",
    }
}

choice! {
    /// What becomes of a column that is to be placed and is not there.
    pub enum MissingField {
        Error = "error",
        Ignore = "ignore",
    }
}

choice! {
    /// What becomes of members of an expanded payload that are null.
    pub enum PayloadNulls {
        Ignore = "ignore",
        OptionalBytes = "optional_bytes",
    }
}

component! {
    /// `outbox run`: committed events to their topics. How events look is set by `table.*` and `route.*`, Debezium's own names.
    pub struct OutboxSettings in "outbox." {
        /// Outbox tables, `schema.name` each.
        /// Default: `public.outbox`, where there is one.
        pub table: Vec<String> = "",
        /// Prefixes of logical messages (`pg_logical_emit_message`) that are events; source 14 and later.
        /// Default: `outbox`, which is what `walferry.emit` uses.
        pub messages: Vec<String> = "outbox",
        /// Topic of a logical message; `${prefix}` is the message's prefix, `${routedByValue}` its `aggregate_type`.
        /// Default: both, so that services that share a broker don't share topics by accident.
        pub message_topic: String = "${prefix}.${routedByValue}",
        /// How the key becomes bytes: `string` is the text itself, `json` a JSON value.
        /// Default: string. A connector file without `key.converter` means json, as Kafka Connect does.
        pub key_converter: Converter = "string",
        /// How the value becomes bytes: `json` writes a payload of JSON as a JSON string unless `table.expand.json.payload` is on; `string`
        /// is the payload's text; `bytes` those of a bytea.
        /// Default: json, as Kafka Connect's.
        pub value_converter: Converter = "json",
        /// Keys that are JSON are wrapped as `{"schema":…,"payload":…}`.
        /// Default: as `kafka.schemas`. A connector file without `key.converter.schemas.enable` means on, as Kafka Connect does.
        pub key_schemas: Option<bool> = "",
        /// Values that are JSON are wrapped so; the schema of an expanded payload is inferred, as Debezium's router does.
        /// Default: as `kafka.schemas`. A connector file without `value.converter.schemas.enable` means on, as Kafka Connect does.
        pub value_schemas: Option<bool> = "",
        /// Publish the rows that the outbox tables have when the slot is made; source 12 and later.
        /// Default: off, because they were mostly published before, by whatever did it then.
        pub snapshot: bool = "off",
        /// Make the publication that `run.publication` names where it is not there, for the outbox tables alone.
        /// Default: off; a name that is given is one that exists. A connector file's `publication.autocreate.mode` turns it on.
        pub make_publication: bool = "off",
        /// `replicate` and `read`: route the outbox in the same process, from a slot and a publication of its own, named `<name>_outbox`.
        /// `migrate` refuses it: routing would end with the cutover.
        /// Default: off.
        pub beside: bool = "off",
        /// With `outbox.beside`: route from the run's own slot and publications, in one stream; `read` and `replicate --via kafka`. The slot then moves
        /// to what Kafka has of the tables and of the events.
        /// Default: off, because then neither waits for what stops the other.
        pub share_slot: bool = "off",
        /// With `outbox.share_slot` and a feed of `read --create-slot`: rows of outbox tables go to a topic of their table too. In a run that feeds a target
        /// they always do, since the target would lack them.
        /// Default: off; they are the events once more.
        pub table_events: bool = "off",
        /// Make a topic that an event needs and that is not there, with `kafka.partitions` and `kafka.retention`.
        /// Default: on. Off: the stream waits for the topic.
        pub create_topics: bool = "on",
        /// Rows whose event Kafka has acknowledged are deleted when they are older than this, also by `outbox clean`; `0s`: all of them.
        /// Default: none; nothing is ever deleted.
        pub retention: Option<Duration> = "",
        /// Column that says how old a row is, timestamptz or timestamp. A timestamp doesn't say in which time zone it was written, and has to be 12 hours
        /// older.
        /// Default: `table.field.event.timestamp`, else `created_at` or `timestamp`, whichever the table has.
        pub retention_column: Option<String> = "",
        /// Rows that one DELETE takes.
        /// Default: small enough that no lock is held for long and vacuum keeps up.
        pub retention_batch: usize = "500",
    }
}

component! {
    /// The columns of an outbox table (Debezium's event router).
    pub struct EventTable titled "Outbox tables" {
        /// Column with the event's id: header `id`.
        /// Default: id.
        pub event_id as "table.field.event.id": String = "id",
        /// Column with the message key.
        /// Default: aggregateid, or `aggregate_id` where the table has that.
        pub event_key as "table.field.event.key": String = "aggregateid",
        /// Column with the event's type; it goes where `table.fields.additional.placement` puts it.
        /// Default: type, or `event_type` where the table has that.
        pub event_type as "table.field.event.type": String = "type",
        /// Column with the payload: the value.
        /// Default: payload.
        pub event_payload as "table.field.event.payload": String = "payload",
        /// Column with the message's time, timestamp or timestamptz.
        /// Default: none; the time of the commit.
        pub event_timestamp as "table.field.event.timestamp": Option<String> = "",
        /// Column with the version of the payload's schema, an integer: header `walferry.schema.version`.
        /// Default: none.
        pub schema_version as "table.field.event.schema.version": Option<String> = "",
        /// More columns: `column:header[:alias]`, `column:envelope[:alias]` (the value becomes `{"payload":…,"alias":…}`), `column:partition`.
        /// Default: none.
        pub placement as "table.fields.additional.placement": Vec<String> = "",
        /// A column of that list that the table does not have: `error` refuses, `ignore` leaves it out.
        /// Default: error.
        pub additional_missing as "table.field.additional.missing": MissingField = "error",
        /// The payload as JSON, not as a string of JSON: any JSON, arrays and scalars too. What is no JSON is dead-lettered.
        /// Default: off, Debezium's.
        pub expand as "table.expand.json.payload": bool = "off",
        /// Members of an expanded payload that are null: `ignore` leaves them out, `optional_bytes` keeps them.
        /// Default: ignore, Debezium's.
        pub payload_nulls as "table.json.payload.null.behavior": PayloadNulls = "ignore",
        /// An UPDATE of an outbox row, which is no event: `warn`, `error` (logged as one), or `fatal` (ends the run).
        /// Default: warn.
        pub invalid_operation as "table.op.invalid.behavior": InvalidOperation = "warn",
    }
}

component! {
    /// From an outbox row to its topic (Debezium's event router).
    pub struct EventRoute titled "Outbox routes" {
        /// Column that chooses the topic.
        /// Default: aggregatetype, or `aggregate_type` where the table has that.
        pub by_field as "route.by.field": String = "aggregatetype",
        /// Regular expression, as Java writes it, for all of the column's value. A value that it does not match is the topic itself.
        /// Default: everything, under the name `routedByValue`.
        pub topic_regex as "route.topic.regex": String = "(?<routedByValue>.*)",
        /// The topic; `${name}` and `$1` are groups of the expression.
        /// Default: `outbox.event.` and the value.
        pub topic_replacement as "route.topic.replacement": String = "outbox.event.${routedByValue}",
        /// A NULL or empty payload makes a message without a value (a tombstone); otherwise NULL is JSON's null.
        /// Default: off, Debezium's.
        pub tombstone as "route.tombstone.on.empty.payload": bool = "off",
    }
}
