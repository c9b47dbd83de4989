//! Kafka Connect's schemas, as its JsonConverter writes them: `{"schema":…,"payload":…}`.
//!
//! Made once for each version of a table. Differences from Debezium's: in `before` of a table whose old rows come as a key, the other
//! columns are optional and without a default, because they are not there; and only defaults that are constants are told (Debezium
//! calls 0 or the year 1970 the default of a computed one; we do so for NOT NULL integers alone, where it can replace no NULL).

mod types;

use super::json;
use super::options::Options;
use super::value::Codec;
use super::value::debezium::Scalar;
use types::Form;

use crate::change::{Relation, ReplicaIdentity};
use crate::envelope::types::{ColumnType, TableTypes};

/// OID of numeric.
const NUMERIC: u32 = 1700;

/// Follows the payload.
pub(super) const CLOSE: &[u8] = b"}";

const SOURCE: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},"#,
    r#"{"type":"string","optional":false,"field":"connector"},{"type":"string","optional":false,"field":"name"},"#,
    r#"{"type":"int64","optional":false,"field":"ts_ms"},"#,
    r#"{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"#,
    r#""parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"#,
    r#""default":"false","field":"snapshot"},{"type":"string","optional":false,"field":"db"},"#,
    r#"{"type":"string","optional":true,"field":"sequence"},{"type":"int64","optional":true,"field":"ts_us"},"#,
    r#"{"type":"int64","optional":true,"field":"ts_ns"},{"type":"string","optional":false,"field":"schema"},"#,
    r#"{"type":"string","optional":false,"field":"table"},{"type":"int64","optional":true,"field":"txId"},"#,
    r#"{"type":"int64","optional":true,"field":"lsn"},{"type":"int64","optional":true,"field":"xmin"},"#,
    r#"{"type":"string","optional":true,"field":"origin"},{"type":"int64","optional":true,"field":"origin_lsn"}],"#,
    r#""optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"}"#
);

const TRANSACTION: &str = concat!(
    r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},"#,
    r#"{"type":"int64","optional":false,"field":"total_order"},"#,
    r#"{"type":"int64","optional":false,"field":"data_collection_order"}],"#,
    r#""optional":true,"name":"event.block","version":1,"field":"transaction"}"#
);

/// Openings of the messages that have no table.
pub(super) struct Openings {
    pub(super) transaction_key: Vec<u8>,
    pub(super) transaction: Vec<u8>,
    pub(super) heartbeat_key: Vec<u8>,
    pub(super) heartbeat: Vec<u8>,
    pub(super) message_key: Vec<u8>,
    pub(super) message: Vec<u8>,
}

impl Openings {
    pub(super) fn new(options: &Options) -> Openings {
        let common = |name: &str, fields: &str| {
            opening(options, &named(fields, &format!("io.debezium.connector.common.{name}")))
        };
        let postgres = |name: &str, fields: &str| {
            opening(options, &named(fields, &format!("io.debezium.connector.postgresql.{name}")))
        };
        let content = Form::of(&Scalar::Bytes(options.message_encoding()), None).field(true, None, "content");
        let message = format!(
            concat!(
                r#"{{"type":"string","optional":false,"field":"op"}},{{"type":"int64","optional":true,"field":"ts_ms"}},"#,
                r#"{},{},{{"type":"struct","fields":[{{"type":"string","optional":true,"field":"prefix"}},{}],"optional":false,"#,
                r#""name":"io.debezium.connector.postgresql.Message","version":1,"field":"message"}}"#
            ),
            SOURCE, TRANSACTION, content
        );
        Openings {
            transaction_key: common(
                "TransactionMetadataKey",
                r#"{"type":"string","optional":false,"field":"id"}"#,
            ),
            transaction: common(
                "TransactionMetadataValue",
                concat!(
                    r#"{"type":"string","optional":false,"field":"status"},{"type":"string","optional":false,"field":"id"},"#,
                    r#"{"type":"int64","optional":true,"field":"event_count"},{"type":"array","items":{"type":"struct","fields":["#,
                    r#"{"type":"string","optional":false,"field":"data_collection"},"#,
                    r#"{"type":"int64","optional":false,"field":"event_count"}],"optional":true,"name":"event.collection","version":1},"#,
                    r#""optional":true,"field":"data_collections"},{"type":"int64","optional":false,"field":"ts_ms"}"#
                ),
            ),
            heartbeat_key: common(
                "ServerNameKey",
                r#"{"type":"string","optional":false,"field":"serverName"}"#,
            ),
            heartbeat: common("Heartbeat", r#"{"type":"int64","optional":false,"field":"ts_ms"}"#),
            message_key: postgres("MessageKey", r#"{"type":"string","optional":true,"field":"prefix"}"#),
            message: postgres("MessageValue", &message),
        }
    }
}

fn named(fields: &str, name: &str) -> String {
    format!(r#"{{"type":"struct","fields":[{fields}],"optional":false,"name":"{name}","version":1}}"#)
}

/// `{"schema":…,"payload":`, or nothing without schemas.
fn opening(options: &Options, schema: &str) -> Vec<u8> {
    if options.schemas { format!("{{\"schema\":{schema},\"payload\":").into_bytes() } else { Vec::new() }
}

/// A column, as far as its schema goes.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) codec: &'a Codec,
    pub(super) described: Option<&'a ColumnType>,
    /// Part of the replica identity.
    pub(super) identity: bool,
}

impl Field<'_> {
    fn write(&self, out: &mut String, sent: bool) {
        let inside = if sent {
            column(self.codec, self.described)
        } else {
            Form::of_codec(self.codec, self.described).inside(true, None)
        };
        out.push_str(&format!("{{{inside},\"field\":{}}}", quoted(self.name)));
    }
}

/// A column's schema in a row that has it, without braces.
pub(super) fn column(codec: &Codec, described: Option<&ColumnType>) -> String {
    let optional = !described.is_some_and(|described| described.not_null);
    let default = described.and_then(|described| default(codec, described));
    Form::of_codec(codec, described).inside(optional, default.as_deref())
}

/// The default as JSON.
fn default(codec: &Codec, described: &ColumnType) -> Option<String> {
    let mut json = Vec::new();
    match &described.default {
        Some(text) => {
            let text = scaled(text, described);
            let value = crate::change::Column::Text(text.as_bytes());
            codec.write(&mut json, value, b"").ok()?;
        }
        None if described.computed_default && described.not_null && codec.is_integer() => json.push(b'0'),
        None => return None,
    }
    String::from_utf8(json).ok()
}

/// A numeric's constant with as many digits after the point as a value of its type has.
fn scaled(text: &str, described: &ColumnType) -> String {
    let scale = ((described.type_modifier - 4) & 0x7ff) as usize;
    if described.base_oid != NUMERIC || described.type_modifier < 4 || described.array || scale > 1000 {
        return text.to_owned();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    match scale {
        0 => text.to_owned(),
        scale => format!("{whole}.{fraction:0<scale$}"),
    }
}

/// Openings of a table's keys and values.
pub(super) fn table(
    options: &Options,
    topic: &str,
    relation: &Relation,
    types: Option<&TableTypes>,
    codecs: &[&Codec],
    key: &[usize],
    key_field: Option<&str>,
) -> (Vec<u8>, Vec<u8>) {
    if !options.schemas {
        return (Vec::new(), Vec::new());
    }
    let fields: Vec<Field<'_>> = relation
        .columns
        .iter()
        .zip(codecs)
        .map(|(column, codec)| Field {
            name: &column.name,
            codec,
            described: types
                .and_then(|types| types.column(&column.name))
                .filter(|described| described.type_oid == column.type_id),
            identity: column.key,
        })
        .collect();
    let whole = relation.identity == ReplicaIdentity::Full;
    let list = |fields: &mut dyn Iterator<Item = (&Field<'_>, bool)>| {
        let mut out = String::new();
        for (at, (field, sent)) in fields.enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            field.write(&mut out, sent);
        }
        out
    };
    let before = list(&mut fields.iter().map(|field| (field, whole || field.identity)));
    let after = list(&mut fields.iter().map(|field| (field, true)));
    let mut key_fields = list(&mut key.iter().filter_map(|&at| fields.get(at)).map(|field| (field, true)));
    if let Some(name) = key_field {
        key_fields.push_str(&format!(r#",{{"type":"string","optional":false,"field":{}}}"#, quoted(name)));
    }
    let row = |fields: &str, name: &str| {
        format!(
            r#"{{"type":"struct","fields":[{fields}],"optional":true,"name":"{topic}.Value","field":"{name}"}}"#
        )
    };
    let value = format!(
        concat!(
            r#"{{"type":"struct","fields":[{},{},{},{},{{"type":"string","optional":false,"field":"op"}},"#,
            r#"{{"type":"int64","optional":true,"field":"ts_ms"}},{{"type":"int64","optional":true,"field":"ts_us"}},"#,
            r#"{{"type":"int64","optional":true,"field":"ts_ns"}}],"optional":false,"name":"{}.Envelope","version":2}}"#
        ),
        row(&before, "before"),
        row(&after, "after"),
        SOURCE,
        TRANSACTION,
        topic
    );
    let key = format!(r#"{{"type":"struct","fields":[{key_fields}],"optional":false,"name":"{topic}.Key"}}"#);
    (opening(options, &key), opening(options, &value))
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    json::string(&mut out, text.as_bytes());
    String::from_utf8(out).unwrap_or_default()
}
