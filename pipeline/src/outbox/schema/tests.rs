use proptest::prelude::*;

use super::super::options::Nulls;
use super::inferred::{InferError, Inferred, infer};

fn inferred(text: &str, nulls: Nulls) -> Option<(String, String)> {
    match infer(text.as_bytes(), "payload", nulls, false).unwrap() {
        Inferred::Value { schema, value } => {
            Some((format!("{{{schema}}}"), String::from_utf8(value).unwrap()))
        }
        Inferred::Text | Inferred::Empty => None,
    }
}

/// The fields of a struct, shortened: `name: type`, `?` behind what is optional, the name of a struct before its fields.
fn short(schema: &serde_json::Value) -> String {
    let optional = if schema["optional"].as_bool().unwrap() { "?" } else { "" };
    let kind = schema["type"].as_str().unwrap();
    match kind {
        "array" => format!("[{}]{optional}", short(&schema["items"])),
        "struct" => {
            let fields = schema["fields"].as_array().unwrap().iter();
            let field =
                |field: &serde_json::Value| format!("{}: {}", field["field"].as_str().unwrap(), short(field));
            let fields: Vec<String> = fields.map(field).collect();
            format!("{} {{{}}}{optional}", schema["name"].as_str().unwrap_or("-"), fields.join(", "))
        }
        _ => format!("{kind}{optional}"),
    }
}

fn shape(text: &str, nulls: Nulls) -> Option<(String, String)> {
    let (schema, value) = inferred(text, nulls)?;
    Some((short(&serde_json::from_str(&schema).unwrap()), value))
}

fn assert_shape(text: &str, nulls: Nulls, schema: &str, value: &str) {
    assert_eq!(shape(text, nulls), Some((schema.to_owned(), value.to_owned())), "{text}");
}

#[test]
fn a_schema_as_the_converter_writes_it() {
    let (schema, value) = inferred(r#"{"a": {"b": [{"c": 1}]}, "x\"y": "é"}"#, Nulls::Ignore).unwrap();
    assert_eq!(
        schema,
        concat!(
            r#"{"type":"struct","fields":[{"type":"struct","fields":[{"type":"array","items":{"type":"struct","#,
            r#""fields":[{"type":"int32","optional":true,"field":"c"}],"optional":true,"name":"payload.a.b"},"#,
            r#""optional":true,"field":"b"}],"optional":true,"name":"payload.a","field":"a"},"#,
            r#"{"type":"string","optional":true,"field":"x\"y"}],"optional":true,"name":"payload"}"#
        )
    );
    assert_eq!(value, r#"{"a":{"b":[{"c":1}]},"x\"y":"é"}"#);
}

#[test]
fn numbers_have_the_smallest_type_that_holds_them() {
    for (number, kind) in [
        ("0", "int32"),
        ("-2147483648", "int32"),
        ("2147483648", "int64"),
        ("9223372036854775807", "int64"),
        ("9223372036854775808", "double"),
        ("1.0", "double"),
        ("1e2", "double"),
    ] {
        assert_shape(
            &format!("{{\"n\": {number}}}"),
            Nulls::Ignore,
            &format!("payload {{n: {kind}?}}?"),
            &format!("{{\"n\":{number}}}"),
        );
    }
}

#[test]
fn what_says_nothing_is_left_out() {
    let text = r#"{"n": null, "e": [], "o": {}, "z": 1}"#;
    assert_shape(r#"{"": null, "a": -0}"#, Nulls::Ignore, "payload {a: int32?}?", r#"{"a":0}"#);
    assert_shape(text, Nulls::Ignore, "payload {o: payload.o {}?, z: int32?}?", r#"{"o":{},"z":1}"#);
    assert_shape(
        text,
        Nulls::OptionalBytes,
        "payload {n: bytes?, o: payload.o {}?, z: int32?}?",
        r#"{"n":null,"o":{},"z":1}"#,
    );
}

#[test]
fn arrays() {
    for (text, schema, value) in [
        ("[1, null, 2]", "[int32?]?", "[1,null,2]"),
        (r#"["a"]"#, "[string?]?", r#"["a"]"#),
        ("[[1], [], [null]]", "[[int32?]?]?", "[[1],[],[null]]"),
        ("[[[1]], [[null]]]", "[[[int32?]?]?]?", "[[[1]],[[null]]]"),
        (r#"[[{"a": {"b": 1}}]]"#, "[[- {a: a {b: int32?}?}?]?]?", r#"[[{"a":{"b":1}}]]"#),
        ("[[1], [2.5]]", "[[double?]?]?", "[[1],[2.5]]"),
        (r#"[{"a": 1}, {"a": 2}]"#, "[payload {a: int32?}?]?", r#"[{"a":1},{"a":2}]"#),
        // United structs are not optional.
        (
            r#"[{"a": 1}, {"b": "x"}]"#,
            "[payload {a: int32?, b: string?}]?",
            r#"[{"a":1,"b":null},{"a":null,"b":"x"}]"#,
        ),
        (
            r#"[{"a": 1}, null, {"b": "x"}]"#,
            "[payload {a: int32?, b: string?}?]?",
            r#"[{"a":1,"b":null},null,{"a":null,"b":"x"}]"#,
        ),
        (
            r#"[{"a": 1}, {"a": 2.5}, {"a": 12345678901}]"#,
            "[payload {a: double?}]?",
            r#"[{"a":1},{"a":2.5},{"a":12345678901}]"#,
        ),
        (
            r#"[{"a": {"x": 1}}, {"a": {"y": 2}}, {"a": null}]"#,
            "[payload {a: payload.a {x: int32?, y: int32?}?}]?",
            r#"[{"a":{"x":1,"y":null}},{"a":{"x":null,"y":2}},{"a":null}]"#,
        ),
        (r#"[{"a": []}, {"a": [1]}]"#, "[payload {a: [int32?]?}]?", r#"[{"a":[]},{"a":[1]}]"#),
    ] {
        assert_shape(text, Nulls::Ignore, schema, value);
    }
    assert_shape("[null]", Nulls::OptionalBytes, "[bytes?]?", "[null]");
    assert_shape(
        r#"[{"a": null}, {"a": 1}]"#,
        Nulls::OptionalBytes,
        "[payload {a: int32?}]?",
        r#"[{"a":null},{"a":1}]"#,
    );
}

#[test]
fn what_has_no_schema_stays_text() {
    for text in [
        "1",
        r#""x""#,
        "null",
        "[]",
        "[null]",
        r#"[1, "x"]"#,
        "[1, 2.5]",
        "[1, 12345678901]",
        "[[], [1]]",
        r#"{"a": {"b": [true, {}]}}"#,
        r#"[{"a": 1}, {"a": "x"}]"#,
        r#"[{"a": [1]}, {"a": {}}]"#,
        r#"[[1], ["x"]]"#,
        r#"{"": 1}"#,
    ] {
        assert_eq!(shape(text, Nulls::Ignore), None, "{text}");
    }
    assert!(matches!(infer(b" [ ] ", "payload", Nulls::Ignore, true), Ok(Inferred::Empty)));
    assert!(matches!(infer(b"[1, []]", "payload", Nulls::Ignore, true), Ok(Inferred::Text)));
}

#[test]
fn of_members_with_one_name_the_last_one_counts() {
    assert_shape(
        r#"{"a": 1, "b": 2, "a": "x"}"#,
        Nulls::Ignore,
        "payload {a: string?, b: int32?}?",
        r#"{"a":"x","b":2}"#,
    );
}

#[test]
fn what_is_no_json_or_has_a_schema_that_nobody_can_hold_is_refused() {
    assert!(matches!(infer(b"{", "payload", Nulls::Ignore, false), Err(InferError::Json(_))));
    let inner: Vec<String> = (0..10_000).map(|at| format!("\"{at}\":{{}}")).collect();
    let text = format!("{{\"{}\":{{{}}}}}", "x".repeat(100_000), inner.join(","));
    assert!(matches!(infer(text.as_bytes(), "payload", Nulls::Ignore, false), Err(InferError::Large)));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        (0..3i64).prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        Just(serde_json::json!(1.5)),
        "[a-c\"]{0,2}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Is `value` one of this schema, as Kafka Connect's JsonConverter reads it?
fn fits(value: &serde_json::Value, schema: &serde_json::Value) -> bool {
    if value.is_null() {
        return schema["optional"] == true;
    }
    match schema["type"].as_str().unwrap() {
        "boolean" => value.is_boolean(),
        "int32" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "int64" => value.is_i64(),
        "double" => value.is_number(),
        "string" => value.is_string(),
        "array" => {
            value.as_array().is_some_and(|elements| elements.iter().all(|e| fits(e, &schema["items"])))
        }
        "struct" => value.as_object().is_some_and(|members| {
            let fields = schema["fields"].as_array().unwrap();
            members.len() == fields.len()
                && fields.iter().all(|field| fits(&members[field["field"].as_str().unwrap()], field))
        }),
        _ => false,
    }
}

/// Without what has no schema of its own wherever it is: null and what is empty.
fn pruned(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    let says = |value: &Value| !value.is_null() && *value != Value::Array(Vec::new());
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), pruned(value)));
            Value::Object(members.filter(|(_, value)| says(value)).collect())
        }
        Value::Array(elements) => Value::Array(elements.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

proptest! {
    /// A payload with a schema fits it, and has lost nothing but what is null or empty.
    #[test]
    fn a_payload_is_what_its_schema_says(value in json(), keep in any::<bool>()) {
        let nulls = if keep { Nulls::OptionalBytes } else { Nulls::Ignore };
        if let Some((schema, written)) = inferred(&value.to_string(), nulls) {
            let schema = serde_json::from_str(&schema).unwrap();
            let written: serde_json::Value = serde_json::from_str(&written).unwrap();
            prop_assert!(fits(&written, &schema), "{} {}", written, schema);
            prop_assert_eq!(pruned(&written), pruned(&value));
        }
    }
}
