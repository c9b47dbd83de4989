//! The properties of Debezium's outbox event router, and what becomes of the source connector's where only outbox tables are routed.

use super::property::Property;
use super::property::Verdict::{NotApplicable, Only, Refused, Sets, SetsAll, Taken};
use super::property::{as_it_is, flag, word};

const ROUTER: &[&str] = &["io.debezium.transforms.outbox.EventRouter"];

const SCHEMAS: &str = "counts where the converter is the JSON one";
const PREDICATES: &str =
    "walferry routes the tables of table.include.list and nothing else, so there is nothing to choose";
const TRACING: &str =
    "no span is made; a context column can go along as a header: table.fields.additional.placement";
const TABLES: &str = "name the outbox tables: table.include.list=schema.table";
const INSERTS: &str = "only inserts are routed; deletes and truncates make no event";

/// Put before [`super::SOURCE`] by `outbox run`.
pub const OUTBOX: &[Property] = &[
    // The router.
    p("transforms", Taken, "The event router"),
    p("transforms.*.predicate", Refused, PREDICATES),
    p("transforms.*.negate", Refused, PREDICATES),
    p("transforms.*.table.field.event.id", sets("table.field.event.id", as_it_is), ""),
    p("transforms.*.table.field.event.key", sets("table.field.event.key", as_it_is), ""),
    p("transforms.*.table.field.event.type", sets("table.field.event.type", as_it_is), ""),
    p("transforms.*.table.field.event.payload", sets("table.field.event.payload", as_it_is), ""),
    p(
        "transforms.*.table.field.payload",
        sets("table.field.event.payload", as_it_is),
        "The name before Debezium 1.8",
    ),
    p("transforms.*.table.field.event.payload.id", NotApplicable, "the key is table.field.event.key"),
    p("transforms.*.table.field.payload.id", NotApplicable, "the key is table.field.event.key"),
    p("transforms.*.table.field.event.timestamp", sets("table.field.event.timestamp", as_it_is), ""),
    p(
        "transforms.*.table.field.event.schema.version",
        sets("table.field.event.schema.version", as_it_is),
        "",
    ),
    p(
        "transforms.*.table.field.schema.version",
        sets("table.field.event.schema.version", as_it_is),
        "The name before Debezium 1.8",
    ),
    p(
        "transforms.*.table.fields.additional.placement",
        sets("table.fields.additional.placement", as_it_is),
        "",
    ),
    p(
        "transforms.*.table.fields.additional.error.on.missing",
        sets("table.field.additional.missing", missing),
        "",
    ),
    p("transforms.*.table.field.additional.missing", sets("table.field.additional.missing", word), ""),
    p("transforms.*.table.expand.json.payload", sets("table.expand.json.payload", flag), ""),
    p("transforms.*.table.json.payload.null.behavior", sets("table.json.payload.null.behavior", word), ""),
    p(
        "transforms.*.table.json.payload.empty.array.behavior",
        NotApplicable,
        "an empty array stays an empty array; with schemas it has none, and is left out",
    ),
    p("transforms.*.table.op.invalid.behavior", sets("table.op.invalid.behavior", word), ""),
    p(
        "transforms.*.debezium.op.invalid.behavior",
        sets("table.op.invalid.behavior", word),
        "The name before Debezium 1.8",
    ),
    p("transforms.*.route.by.field", sets("route.by.field", as_it_is), ""),
    p("transforms.*.route.topic.regex", sets("route.topic.regex", as_it_is), ""),
    p("transforms.*.route.topic.replacement", sets("route.topic.replacement", as_it_is), ""),
    p("transforms.*.route.tombstone.on.empty.payload", sets("route.tombstone.on.empty.payload", flag), ""),
    p("transforms.*.tracing.*", NotApplicable, TRACING),
    // Behind those that end alike.
    p("transforms.*.type", Only(ROUTER), "the event router and no other transform"),
    p("transforms.*", Refused, "the event router has no property of this name"),
    p("predicates", Refused, PREDICATES),
    p("predicates.*", Refused, PREDICATES),
    // What is captured.
    p(
        "table.include.list",
        sets("outbox.table", tables),
        "Names of tables, each as it is or with its dots escaped",
    ),
    p("table.exclude.list", Refused, TABLES),
    p("schema.include.list", NotApplicable, TABLES),
    p("schema.exclude.list", NotApplicable, TABLES),
    p("column.include.list", NotApplicable, "the router takes the columns that it is told to"),
    p("column.exclude.list", NotApplicable, "the router takes the columns that it is told to"),
    p("message.key.columns", NotApplicable, "the key is table.field.event.key"),
    p(
        "message.prefix.include.list",
        sets("outbox.messages", as_it_is),
        "Prefixes as they are, no expressions",
    ),
    p("message.prefix.exclude.list", NotApplicable, "name the prefixes that are routed"),
    p(
        "publish.via.partition.root",
        NotApplicable,
        "the publication says it; each row is sent once, under the name that it is published by",
    ),
    p("skipped.operations", NotApplicable, INSERTS),
    p("tombstones.on.delete", NotApplicable, INSERTS),
    p(
        "provide.transaction.metadata",
        NotApplicable,
        "an event's transaction is in the header walferry.position",
    ),
    p("heartbeat.interval.ms", NotApplicable, "an idle slot advances without a message"),
    p(
        "snapshot.mode",
        Sets { key: "outbox.snapshot", read: snapshot, default: Some("no_data") },
        "initial publishes the rows that are there at the first start; a file that leaves it out means no_data here",
    ),
    p(
        "publication.autocreate.mode",
        Sets { key: "outbox.make_publication", read: autocreate, default: Some("all_tables") },
        "A publication that is not there is made, for the outbox tables alone",
    ),
    // How it is written.
    p(
        "key.converter",
        Sets {
            key: "outbox.key_converter",
            read: converter,
            default: Some("org.apache.kafka.connect.json.JsonConverter"),
        },
        "",
    ),
    p(
        "value.converter",
        Sets {
            key: "outbox.value_converter",
            read: converter,
            default: Some("org.apache.kafka.connect.json.JsonConverter"),
        },
        "",
    ),
    p(
        "key.converter.schemas.enable",
        Sets { key: "outbox.key_schemas", read: flag, default: Some("true") },
        SCHEMAS,
    ),
    p(
        "value.converter.schemas.enable",
        Sets { key: "outbox.value_schemas", read: flag, default: Some("true") },
        SCHEMAS,
    ),
    p("converter.schemas.enable", SetsAll(schemas), "`outbox.key_schemas` and `outbox.value_schemas`"),
    p("value.converter.delegate.converter.*", NotApplicable, "only what is no event went to the delegate"),
    p("schema.history.internal.*", NotApplicable, "belongs to the MySQL connector"),
    p("database.history.*", NotApplicable, "belongs to the MySQL connector"),
];

const fn p(name: &'static str, verdict: super::Verdict, note: &'static str) -> Property {
    Property { name, verdict, note }
}

const fn sets(key: &'static str, read: fn(&str) -> Result<String, String>) -> super::Verdict {
    Sets { key, read, default: None }
}

/// Of keys and values.
fn schemas(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let on = flag(text)?;
    Ok(vec![("outbox.key_schemas", on.clone()), ("outbox.value_schemas", on)])
}

fn missing(text: &str) -> Result<String, String> {
    flag(text).map(|on| if on == "on" { "error" } else { "ignore" }.to_owned())
}

/// A list of regular expressions, each of which has to be a name.
fn tables(text: &str) -> Result<String, String> {
    let plain = |name: &str| {
        let name = name.trim().replace("\\.", ".");
        let fits = !name.is_empty()
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '-'));
        fits.then_some(name)
    };
    let names: Option<Vec<String>> = text.split(',').map(plain).collect();
    names
        .map(|names| names.join(","))
        .ok_or_else(|| "expected names of tables, schema.table each, no expressions".to_owned())
}

fn snapshot(text: &str) -> Result<String, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "no_data" | "never" | "schema_only" => Ok("off".to_owned()),
        "initial" => Ok("on".to_owned()),
        _ => Err("expected no_data, never or initial".to_owned()),
    }
}

fn autocreate(text: &str) -> Result<String, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "disabled" => Ok("off".to_owned()),
        "all_tables" | "filtered" | "no_tables" => Ok("on".to_owned()),
        _ => Err("expected disabled, all_tables, filtered or no_tables".to_owned()),
    }
}

fn converter(text: &str) -> Result<String, String> {
    Ok(match text.trim() {
        "org.apache.kafka.connect.json.JsonConverter" => "json",
        "org.apache.kafka.connect.storage.StringConverter" => "string",
        "org.apache.kafka.connect.converters.ByteArrayConverter"
        | "io.debezium.converters.ByteArrayConverter"
        | "io.debezium.converters.BinaryDataConverter"
        | "io.debezium.converters.ByteBufferConverter" => "bytes",
        _ => return Err(
            "expected JsonConverter, StringConverter or ByteArrayConverter: others need a schema registry"
                .to_owned(),
        ),
    }
    .to_owned())
}
