//! The properties of Debezium's PostgreSQL source connector, of Kafka Connect around it, and of its JSON converter.

use super::property::Property;
use super::property::Verdict::{Connects, NotApplicable, Only, Refused, Sets, SetsAll};
use super::property::{as_it_is, flag, milliseconds, word};

const JSON: &[&str] = &["org.apache.kafka.connect.json.JsonConverter"];
const OFF: &[&str] = &["false"];

const WORKER: &str = "Kafka Connect's own; walferry is no worker of it";
const OFFSETS: &str = "the slot and the topics are where a reader goes on";
const QUEUES: &str = "walferry bounds its memory in bytes: kafka.in_flight_bytes and apply.queue_bytes";
const RETRIES: &str = "what failed is tried again for as long as it takes, see retry.connection_max";
const INCREMENTAL: &str = "the topic is read, not signalled: read --snapshot sends a whole table again";
const NAMES: &str = "regular expressions for whole names, which know no case, as Debezium's";
const COLUMNS: &str = "as Debezium's; columns of a table's key can't be left out";
const NO_CHANGE: &str = "walferry sends every value as it is";
const NO_OTHER: &str = "tables can be routed (ByLogicalTableRouter); reshape where the topics are consumed; the outbox router is walferry outbox run";
const SCHEMAS: &str = "key and value are wrapped with their schema, or neither is";

/// One table for the reader.
pub const SOURCE: &[Property] = &[
    // The connection.
    p(
        "connector.class",
        Only(&["io.debezium.connector.postgresql.PostgresConnector"]),
        "the PostgreSQL source connector",
    ),
    p("database.hostname", Connects("host"), ""),
    p("database.port", Connects("port"), ""),
    p("database.user", Connects("user"), ""),
    p("database.password", Connects("password"), ""),
    p("database.dbname", Connects("dbname"), ""),
    p("database.sslmode", Connects("sslmode"), ""),
    p("database.sslcert", Connects("sslcert"), "a key has to be PEM"),
    p(
        "database.sslkey",
        Connects("sslkey"),
        "PEM; PKCS#8 in DER has to be converted (openssl pkcs8 -inform DER)",
    ),
    p(
        "database.sslpassword",
        Refused,
        "a key that is encrypted can't be read: give one that is not, readable by its owner alone (openssl pkey -in KEY -out PLAIN)",
    ),
    p("database.sslrootcert", Connects("sslrootcert"), ""),
    p(
        "database.sslfactory",
        Refused,
        "a Java class; give certificates by database.sslrootcert, sslcert and sslkey",
    ),
    p("database.tcpKeepAlive", NotApplicable, "connections are always kept alive"),
    p("database.initial.statements", Refused, "sessions have pinned settings; use ALTER ROLE … SET"),
    p(
        "database.query.timeout.ms",
        NotApplicable,
        "the sessions of a copy have no statement timeout, others a fixed one",
    ),
    // Topics.
    p("topic.prefix", sets("kafka.prefix", as_it_is), "First part of every topic's name"),
    p(
        "topic.naming.strategy",
        Only(&[
            "io.debezium.schema.SchemaTopicNamingStrategy",
            "io.debezium.schema.DefaultTopicNamingStrategy",
        ]),
        "topics are <prefix>.<schema>.<table>",
    ),
    p("topic.delimiter", Only(&["."]), "topics are <prefix>.<schema>.<table>"),
    p("topic.transaction", Only(&["transaction"]), "the topic is <prefix>.transaction"),
    p(
        "topic.heartbeat.prefix",
        Only(&["__debezium-heartbeat"]),
        "the topic is __debezium-heartbeat.<prefix>",
    ),
    p(
        "heartbeat.topics.prefix",
        Only(&["__debezium-heartbeat"]),
        "the topic is __debezium-heartbeat.<prefix>",
    ),
    p("topic.cache.size", NotApplicable, "every topic's name is kept"),
    p("topic.creation.enable", NotApplicable, "topics are always made explicitly"),
    p("topic.creation.groups", NotApplicable, "every table's topic is made alike"),
    p("topic.creation.default.partitions", sets("kafka.partitions", as_it_is), ""),
    p(
        "topic.creation.default.replication.factor",
        sets("kafka.replication_factor", broker_default),
        "-1 is the broker's own",
    ),
    p("topic.creation.default.retention.ms", sets("kafka.retention", milliseconds), ""),
    p("topic.creation.default.cleanup.policy", Only(&["delete"]), "a compacted topic loses changes"),
    p(
        "topic.creation.*",
        NotApplicable,
        "every table's topic is made alike; set it on the broker or with kafka-configs.sh",
    ),
    // What is captured.
    p("schema.include.list", sets("capture.schema_include", as_it_is), NAMES),
    p("schema.exclude.list", sets("capture.schema_exclude", as_it_is), NAMES),
    p("table.include.list", sets("capture.table_include", as_it_is), NAMES),
    p("table.exclude.list", sets("capture.table_exclude", as_it_is), NAMES),
    p("column.include.list", sets("capture.column_include", as_it_is), COLUMNS),
    p("column.exclude.list", sets("capture.column_exclude", as_it_is), COLUMNS),
    p("skipped.operations", with_default("capture.skipped_operations", word, "t"), ""),
    p(
        "message.prefix.include.list",
        with_default("capture.message_include", as_it_is, ".*"),
        "source 14 and later",
    ),
    p("message.prefix.exclude.list", sets("capture.message_exclude", as_it_is), ""),
    p(
        "snapshot.mode",
        with_default("capture.snapshot", snapshot, "initial"),
        "initial, always and no_data (never); a slot that is there, with topics that have events, was read before and needs no initial one",
    ),
    p("snapshot.include.collection.list", Refused, "a snapshot is of every table that is captured"),
    p(
        "provide.transaction.metadata",
        with_default("kafka.transactions", flag, "false"),
        "where a reader goes on stands in the heartbeats in any case",
    ),
    p(
        "heartbeat.interval.ms",
        NotApplicable,
        "a heartbeat is sent whenever the source has moved on: where the reader goes on stands in it",
    ),
    // The form of events.
    p("key.converter", Only(JSON), "events are JSON"),
    p("value.converter", Only(JSON), "events are JSON"),
    p("key.converter.schemas.enable", with_default("kafka.schemas", flag, "true"), SCHEMAS),
    p("value.converter.schemas.enable", sets("kafka.schemas", flag), SCHEMAS),
    p("converter.schemas.enable", sets("kafka.schemas", flag), SCHEMAS),
    p(
        "key.converter.decimal.format",
        Only(&["BASE64"]),
        "decimals of Connect are base64; use decimal.handling.mode=string for text",
    ),
    p(
        "value.converter.decimal.format",
        Only(&["BASE64"]),
        "decimals of Connect are base64; use decimal.handling.mode=string for text",
    ),
    p("key.converter.schemas.cache.size", NotApplicable, WORKER),
    p("value.converter.schemas.cache.size", NotApplicable, WORKER),
    p("key.converter.plugin.version", NotApplicable, WORKER),
    p("value.converter.plugin.version", NotApplicable, WORKER),
    p("header.converter", NotApplicable, "headers are UTF-8 text"),
    p("header.converter.*", NotApplicable, "headers are UTF-8 text"),
    p("decimal.handling.mode", with_default("decimal.handling.mode", word, "precise"), ""),
    p("time.precision.mode", with_default("time.precision.mode", word, "adaptive"), ""),
    p("binary.handling.mode", with_default("binary.handling.mode", word, "bytes"), ""),
    p("interval.handling.mode", with_default("interval.handling.mode", word, "numeric"), ""),
    p("hstore.handling.mode", with_default("hstore.handling.mode", word, "json"), ""),
    p("unavailable.value.placeholder", sets("unavailable.value.placeholder", as_it_is), ""),
    p("money.fraction.digits", Only(&["2"]), "money has two digits, as lc_monetary C has"),
    p("tombstones.on.delete", with_default("kafka.tombstones", flag, "true"), ""),
    p("schema.name.adjustment.mode", Only(&["none"]), "names stay as they are"),
    p("field.name.adjustment.mode", Only(&["none"]), "names stay as they are"),
    p(
        "include.unknown.datatypes",
        NotApplicable,
        "columns of every type are sent, as text where Debezium has no form for it",
    ),
    p("include.schema.comments", Only(OFF), "schemas carry no comments"),
    p(
        "sourceinfo.struct.maker",
        Only(&["io.debezium.connector.postgresql.PostgresSourceInfoStructMaker"]),
        "the block source has Debezium's members",
    ),
    p(
        "transaction.metadata.factory",
        Only(&["io.debezium.pipeline.txmetadata.DefaultTransactionMetadataFactory"]),
        "the block transaction has Debezium's members",
    ),
    p("extended.headers.enabled", Only(&["true"]), "events carry the headers __debezium.context.*"),
    // What would change an event and can't be had.
    p(
        "converters",
        Refused,
        "a Java class of your own; cast the column in a view, or convert where it is consumed",
    ),
    p("post.processors", Refused, "a Java class of your own; convert where it is consumed"),
    p("transforms", SetsAll(one_transform), "`capture.topic_regex` and `capture.topic_replacement`"),
    p("transforms.*.predicate", Refused, "every table's topic is looked at"),
    p("transforms.*.negate", Refused, "every table's topic is looked at"),
    p("transforms.*.topic.regex", sets("capture.topic_regex", as_it_is), "Of tables' topics alone"),
    p("transforms.*.topic.replacement", sets("capture.topic_replacement", as_it_is), ""),
    p("transforms.*.key.enforce.uniqueness", sets("capture.topic_key", flag), ""),
    p("transforms.*.key.field.name", sets("capture.topic_key_field", as_it_is), ""),
    p("transforms.*.key.field.regex", Refused, "the key has the name of the table's own topic"),
    p("transforms.*.key.field.replacement", Refused, "the key has the name of the table's own topic"),
    p("transforms.*.schema.name.adjustment.mode", Only(&["none"]), "names are those of the topics"),
    p(
        "transforms.*.logical.table.cache.size",
        NotApplicable,
        "a table's topic is known for as long as it is streamed",
    ),
    p("transforms.*.type", Only(&["io.debezium.transforms.ByLogicalTableRouter"]), NO_OTHER),
    p("transforms.*", Refused, NO_OTHER),
    p("predicates", Refused, "belongs to transforms"),
    p("predicates.*", Refused, "belongs to transforms"),
    p("column.mask.*", Refused, NO_CHANGE),
    p("column.truncate.*", Refused, NO_CHANGE),
    p("column.propagate.source.type", Refused, "schemas don't name the source's types"),
    p("datatype.propagate.source.type", Refused, "schemas don't name the source's types"),
    p(
        "message.key.columns",
        Refused,
        "the key is the primary key, else the replica identity index, else a unique index over NOT NULL columns",
    ),
    p("skip.messages.without.change", Only(OFF), "every update is sent"),
    p(
        "snapshot.select.statement.overrides",
        Refused,
        "a snapshot is of whole tables; use a publication with a row filter",
    ),
    p(
        "snapshot.select.statement.overrides.*",
        Refused,
        "a snapshot is of whole tables; use a publication with a row filter",
    ),
    p("heartbeat.action.query", NotApplicable, "an idle slot advances without a write of its own"),
    // Replication.
    p("plugin.name", NotApplicable, "pgoutput reads the WAL; the server has it"),
    p(
        "slot.name",
        with_default("run.slot", as_it_is, "debezium"),
        "A slot that exists is adopted and never dropped",
    ),
    p("slot.failover", sets("slot.failover", flag), ""),
    p("slot.drop.on.stop", Only(OFF), "a slot is dropped by walferry clean alone"),
    p("slot.stream.params", Refused, "the options of pgoutput are fixed"),
    p("slot.max.retries", NotApplicable, RETRIES),
    p("slot.retry.delay.ms", NotApplicable, RETRIES),
    p("publication.name", with_default("run.publication", name, "dbz_publication"), ""),
    p(
        "replica.identity.autoset.values",
        Refused,
        "set REPLICA IDENTITY on the tables yourself, or give --keyless full",
    ),
    p(
        "publication.autocreate.mode",
        with_default("capture.publication", word, "all_tables"),
        "a publication that is there stays as it is",
    ),
    p(
        "publish.via.partition.root",
        sets("capture.via_partition_root", flag),
        "of a publication that is made",
    ),
    p("status.update.interval.ms", NotApplicable, "the server hears of progress at once"),
    p("xmin.fetch.interval.ms", Only(&["0"]), "source.xmin is null"),
    p("flush.lsn.source", Only(&["true"]), "the slot is confirmed as soon as Kafka has acknowledged"),
    p("lsn.flush.mode", Only(&["connector"]), "the slot is confirmed as soon as Kafka has acknowledged"),
    p("lsn.flush.timeout.*", NotApplicable, "confirming a slot is never waited for"),
    p("offset.mismatch.strategy", NotApplicable, OFFSETS),
    p("read.only", Only(OFF), "publication and slot are made on the source"),
    p("schema.refresh.mode", NotApplicable, "the stream says when a table has changed"),
    p("table.ignore.builtin", Only(&["true"]), "PostgreSQL's own tables are never sent"),
    // The snapshot's way.
    p("snapshot.locking.mode", NotApplicable, "a snapshot takes ACCESS SHARE, as every reader does"),
    p("snapshot.lock.timeout.ms", NotApplicable, "a snapshot takes ACCESS SHARE, as every reader does"),
    p("snapshot.isolation.mode", NotApplicable, "a snapshot is the slot's own: exact, and of one moment"),
    p("snapshot.query.mode", Only(&["select_all"]), "a snapshot is of whole tables"),
    p("snapshot.max.threads", sets("copy.jobs", as_it_is), ""),
    p(
        "snapshot.max.threads.multiplier",
        NotApplicable,
        "tables are divided by their size, see copy.chunk_bytes_max",
    ),
    p("snapshot.fetch.size", NotApplicable, "rows are copied, not fetched"),
    p("query.fetch.size", NotApplicable, "rows are copied, not fetched"),
    p("snapshot.tables.order.by.row.count", NotApplicable, "the largest table comes first"),
    p("min.row.count.to.stream.results", NotApplicable, "rows are copied, not fetched"),
    p("snapshot.delay.ms", NotApplicable, "start it when it may begin"),
    p("streaming.delay.ms", NotApplicable, "the slot keeps the WAL until it is read"),
    p("signal.*", NotApplicable, INCREMENTAL),
    p("notification.*", NotApplicable, "walferry status tells; and log.format=json"),
    p("incremental.snapshot.*", NotApplicable, INCREMENTAL),
    // The worker's.
    p("name", NotApplicable, "the connector's; the run is named by --name"),
    p("tasks.max", NotApplicable, "one process reads one slot"),
    p("tasks.max.enforce", NotApplicable, "one process reads one slot"),
    p("connector.plugin.version", NotApplicable, WORKER),
    p("config.action.reload", NotApplicable, WORKER),
    p("config.providers", NotApplicable, "env, file and directory are read"),
    p("config.providers.*", NotApplicable, "env, file and directory are read"),
    p("errors.retry.timeout", NotApplicable, RETRIES),
    p("errors.retry.delay.max.ms", NotApplicable, RETRIES),
    p("errors.max.retries", NotApplicable, RETRIES),
    p("errors.tolerance", Only(&["none"]), "a change is never passed over"),
    p("errors.log.*", NotApplicable, "errors are logged; rows never"),
    p("event.processing.failure.handling.mode", Only(&["fail"]), "a change is never passed over"),
    p("exactly.once.support", NotApplicable, "duplicates after a crash carry the same position"),
    p("transaction.boundary", NotApplicable, WORKER),
    p("transaction.boundary.interval.ms", NotApplicable, WORKER),
    p("offsets.storage.topic", NotApplicable, OFFSETS),
    p("offset.storage", NotApplicable, OFFSETS),
    p("offset.storage.*", NotApplicable, OFFSETS),
    p("offset.flush.*", NotApplicable, OFFSETS),
    p("offset.commit.policy", NotApplicable, OFFSETS),
    p("max.batch.size", NotApplicable, QUEUES),
    p("max.queue.size", NotApplicable, QUEUES),
    p("max.queue.size.in.bytes", NotApplicable, QUEUES),
    p("poll.interval.ms", NotApplicable, "changes are sent as they come"),
    p("retriable.restart.connector.wait.ms", NotApplicable, RETRIES),
    p("connection.validation.timeout.ms", NotApplicable, "walferry check looks"),
    p("executor.shutdown.timeout.ms", NotApplicable, "a signal ends it within seconds"),
    p("custom.metric.tags", NotApplicable, "metrics are walferry's own"),
    p("openlineage.*", NotApplicable, "no lineage is sent"),
    p("guardrail.*", NotApplicable, "walferry check lists what would be captured"),
    p("database.server.name", Refused, "the name before Debezium 2: give topic.prefix"),
    p("database.server.id", Refused, "belongs to the MySQL connector"),
    p("internal.*", NotApplicable, "Debezium's internals"),
];

/// Before [`SOURCE`] for a writer: what concerns the source's side is the connector's business there.
pub const WRITER: &[Property] = &[
    p("database.*", NotApplicable, "the connector's; the writer needs no source"),
    p("slot.*", NotApplicable, "the connector's"),
    p("publication.*", NotApplicable, "the connector's"),
    p("snapshot.*", NotApplicable, "the connector's"),
    p("topic.creation.*", NotApplicable, "the connector's"),
    p("transforms", Refused, "the writer reads the topics as Debezium fills them"),
    p("table.include.list", NotApplicable, "the connector's"),
    p("table.exclude.list", NotApplicable, "the connector's"),
    p("schema.include.list", NotApplicable, "the connector's"),
    p("schema.exclude.list", NotApplicable, "the connector's"),
    p("skipped.operations", NotApplicable, "the connector's"),
    p("provide.transaction.metadata", NotApplicable, "the connector's"),
    p("heartbeat.*", NotApplicable, "the connector's"),
    p("message.*", NotApplicable, "the connector's"),
];

const fn p(name: &'static str, verdict: super::Verdict, note: &'static str) -> Property {
    Property { name, verdict, note }
}

const fn sets(key: &'static str, read: fn(&str) -> Result<String, String>) -> super::Verdict {
    Sets { key, read, default: None }
}

const fn with_default(
    key: &'static str,
    read: fn(&str) -> Result<String, String>,
    default: &'static str,
) -> super::Verdict {
    Sets { key, read, default: Some(default) }
}

/// Two would be one behind the other.
fn one_transform(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    if text.contains(',') {
        return Err("expected one transform, the ByLogicalTableRouter".to_owned());
    }
    Ok(Vec::new())
}

/// A name, which may hold a comma.
fn name(text: &str) -> Result<String, String> {
    Ok(if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() })
}

fn snapshot(text: &str) -> Result<String, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "initial" => Ok("initial".to_owned()),
        "always" => Ok("always".to_owned()),
        "no_data" | "never" | "schema_only" => Ok("never".to_owned()),
        "initial_only" => Err("refused: walferry read streams; for rows without a stream use walferry copy, or stop it when the \
             snapshot is written"
            .to_owned()),
        "when_needed" => Err("refused: when the slot has lost something walferry read stops and says so; use initial".to_owned()),
        "custom" | "configuration_based" => Err("refused: use initial, always or no_data".to_owned()),
        _ => Err("expected initial, always or no_data".to_owned()),
    }
}

fn broker_default(text: &str) -> Result<String, String> {
    Ok(if text.trim() == "-1" { String::new() } else { text.to_owned() })
}
