//! The schema of one type.

use super::quoted;
use crate::envelope::options::Binary;
use crate::envelope::types::{ColumnType, Kind};
use crate::envelope::value::debezium::{Scalar, Unit};
use crate::envelope::value::{Codec, Plain};

/// A type's schema, but for what its place in a struct says.
pub(super) struct Form {
    /// `"type":…` and what the type consists of.
    body: String,
    /// The semantic type; its version is 1.
    name: Option<&'static str>,
    doc: Option<&'static str>,
    parameters: Vec<(&'static str, String)>,
}

impl Form {
    pub(super) fn of_codec(codec: &Codec, described: Option<&ColumnType>) -> Form {
        match codec {
            Codec::Plain(plain) => {
                Form::simple(match (plain, described.map(|described| described.base_oid)) {
                    (Plain::Bool, _) => "boolean",
                    (Plain::Integer, Some(21)) => "int16",
                    (Plain::Integer, Some(23)) => "int32",
                    (Plain::Integer, _) => "int64",
                    (Plain::Float, Some(700)) => "float",
                    (Plain::Float, _) => "double",
                    (Plain::Text, _) => "string",
                })
            }
            Codec::Debezium(encoding) if encoding.array => {
                let element = Form::of(&encoding.scalar, described);
                // An enum's elements are called required, whatever the array holds.
                let optional = element.name != Some("io.debezium.data.Enum");
                Form::body(format!("\"type\":\"array\",\"items\":{{{}}}", element.inside(optional, None)))
            }
            Codec::Debezium(encoding) => Form::of(&encoding.scalar, described),
        }
    }

    fn body(body: String) -> Form {
        Form { body, name: None, doc: None, parameters: Vec::new() }
    }

    fn simple(kind: &str) -> Form {
        Form::body(format!("\"type\":\"{kind}\""))
    }

    fn named(kind: &str, name: &'static str) -> Form {
        Form { name: Some(name), ..Form::simple(kind) }
    }

    /// As a field of a struct.
    pub(super) fn field(&self, optional: bool, default: Option<&str>, name: &str) -> String {
        format!("{{{},\"field\":{}}}", self.inside(optional, default), quoted(name))
    }

    /// Without braces, so that whatever its place asks for can follow.
    pub(super) fn inside(&self, optional: bool, default: Option<&str>) -> String {
        let mut out = format!("{},\"optional\":{optional}", self.body);
        if let Some(name) = self.name {
            out.push_str(&format!(",\"name\":\"{name}\",\"version\":1"));
        }
        if let Some(doc) = self.doc {
            out.push_str(&format!(",\"doc\":\"{doc}\""));
        }
        if !self.parameters.is_empty() {
            let of = |(name, value): &(&str, String)| format!("\"{name}\":{}", quoted(value));
            let parameters: Vec<String> = self.parameters.iter().map(of).collect();
            out.push_str(&format!(",\"parameters\":{{{}}}", parameters.join(",")));
        }
        if let Some(default) = default {
            out.push_str(&format!(",\"default\":{default}"));
        }
        out
    }

    pub(super) fn of(scalar: &Scalar, described: Option<&ColumnType>) -> Form {
        match scalar {
            Scalar::Bool | Scalar::Bit => Form::simple("boolean"),
            Scalar::Integer(2) => Form::simple("int16"),
            Scalar::Integer(4) => Form::simple("int32"),
            Scalar::Integer(_) => Form::simple("int64"),
            Scalar::Float4 => Form::simple("float"),
            Scalar::Float8 | Scalar::DecimalDouble { .. } => Form::simple("double"),
            Scalar::DecimalString { .. } => Form::simple("string"),
            Scalar::Decimal { precision, scale, .. } => {
                let mut parameters = vec![("scale", scale.to_string())];
                parameters.extend(precision.map(|precision| ("connect.decimal.precision", precision.to_string())));
                Form { parameters, ..Form::named("bytes", "org.apache.kafka.connect.data.Decimal") }
            }
            Scalar::VariableDecimal => Form {
                body: concat!(
                    r#""type":"struct","fields":[{"type":"int32","optional":false,"field":"scale"},"#,
                    r#"{"type":"bytes","optional":false,"field":"value"}]"#
                )
                .to_owned(),
                name: Some("io.debezium.data.VariableScaleDecimal"),
                doc: Some("Variable scaled decimal"),
                parameters: Vec::new(),
            },
            Scalar::Date(unit) => date(*unit),
            Scalar::Time(unit) => time(*unit),
            Scalar::Timestamp(unit) => timestamp(*unit),
            Scalar::TimestampTz(_) => Form::named("string", "io.debezium.time.ZonedTimestamp"),
            Scalar::TimeTz => Form::named("string", "io.debezium.time.ZonedTime"),
            Scalar::IntervalMicros => Form::named("int64", "io.debezium.time.MicroDuration"),
            Scalar::IntervalString => Form::named("string", "io.debezium.time.Interval"),
            Scalar::Bytes(Binary::Bytes) => Form::simple("bytes"),
            Scalar::Bytes(_) => Form::simple("string"),
            Scalar::Bits { length, .. } => {
                let length = length.unwrap_or(i32::MAX as u32).to_string();
                Form { parameters: vec![("length", length)], ..Form::named("bytes", "io.debezium.data.Bits") }
            }
            Scalar::HstoreJson => Form::named("string", "io.debezium.data.Json"),
            Scalar::HstoreMap => Form::body(
                concat!(
                    r#""type":"map","keys":{"type":"string","optional":false},"#,
                    r#""values":{"type":"string","optional":true}"#
                )
                .to_owned(),
            ),
            Scalar::Point => Form {
                body: concat!(
                    r#""type":"struct","fields":[{"type":"double","optional":false,"field":"x"},"#,
                    r#"{"type":"double","optional":false,"field":"y"},{"type":"bytes","optional":true,"field":"wkb"},"#,
                    r#"{"type":"int32","optional":true,"field":"srid"}]"#
                )
                .to_owned(),
                name: Some("io.debezium.data.geometry.Point"),
                doc: Some("Geometry (POINT)"),
                parameters: Vec::new(),
            },
            Scalar::Text => text(described),
        }
    }
}

fn text(described: Option<&ColumnType>) -> Form {
    let Some(described) = described else { return Form::simple("string") };
    if described.kind == Kind::Enum {
        let parameters = vec![("allowed", described.labels.join(","))];
        return Form { parameters, ..Form::named("string", "io.debezium.data.Enum") };
    }
    match (described.base_oid, &described.base_name[..]) {
        (2950, _) => Form::named("string", "io.debezium.data.Uuid"),
        (114 | 3802, _) => Form::named("string", "io.debezium.data.Json"),
        (142, _) => Form::named("string", "io.debezium.data.Xml"),
        (3614, _) => Form::named("string", "io.debezium.data.Tsvector"),
        (_, "ltree") => Form::named("string", "io.debezium.data.Ltree"),
        _ => Form::simple("string"),
    }
}

fn date(unit: Unit) -> Form {
    match unit {
        Unit::Iso => Form::named("string", "io.debezium.time.IsoDate"),
        Unit::Days { connect: true } => Form::named("int32", "org.apache.kafka.connect.data.Date"),
        _ => Form::named("int32", "io.debezium.time.Date"),
    }
}

fn time(unit: Unit) -> Form {
    match unit {
        Unit::Iso => Form::named("string", "io.debezium.time.IsoTime"),
        Unit::Millis { connect: true } => Form::named("int32", "org.apache.kafka.connect.data.Time"),
        Unit::Millis { connect: false } => Form::named("int32", "io.debezium.time.Time"),
        Unit::Nanos => Form::named("int64", "io.debezium.time.NanoTime"),
        Unit::Micros | Unit::Days { .. } => Form::named("int64", "io.debezium.time.MicroTime"),
    }
}

fn timestamp(unit: Unit) -> Form {
    match unit {
        Unit::Iso => Form::named("string", "io.debezium.time.IsoTimestamp"),
        Unit::Millis { connect: true } => Form::named("int64", "org.apache.kafka.connect.data.Timestamp"),
        Unit::Millis { connect: false } => Form::named("int64", "io.debezium.time.Timestamp"),
        Unit::Nanos => Form::named("int64", "io.debezium.time.NanoTimestamp"),
        Unit::Micros | Unit::Days { .. } => Form::named("int64", "io.debezium.time.MicroTimestamp"),
    }
}
