//! Every configuration key: what it means, in which unit, and why the default is what it is.
//!
//! docs/configuration.md is generated from these lines (`walferry config reference`).

use std::path::PathBuf;
use std::time::Duration;

use super::component::component;
use super::connection::{Conninfo, Secret};
use super::value::choice;
use super::{Jobs, Listen, Size};

choice! {
    /// What to do with a table that has no replica identity (only where walferry makes the publication).
    pub enum Keyless {
        Refuse = "refuse",
        Full = "full",
        Inserts = "inserts",
    }
}

choice! {
    /// When `migrate` hands over to the target.
    pub enum CutoverMode {
        Manual = "manual",
        Auto = "auto",
    }
}

choice! {
    /// How changes travel from reader to writer.
    pub enum Via {
        Direct = "direct",
        Kafka = "kafka",
    }
}

choice! {
    /// Whose topics a writer reads.
    pub enum From {
        Walferry = "walferry",
        Debezium = "debezium",
    }
}

choice! {
    /// How values are written in events.
    pub enum KafkaValues {
        Postgres = "postgres",
        Debezium = "debezium",
    }
}

choice! {
    /// Kafka's `security.protocol`.
    pub enum SecurityProtocol {
        Plaintext = "PLAINTEXT",
        Ssl = "SSL",
        SaslPlaintext = "SASL_PLAINTEXT",
        SaslSsl = "SASL_SSL",
    }
}

choice! {
    /// Kafka's `sasl.mechanism`.
    pub enum SaslMechanism {
        Plain = "PLAIN",
        ScramSha256 = "SCRAM-SHA-256",
        ScramSha512 = "SCRAM-SHA-512",
    }
}

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

choice! {
    /// What happens when the slot retains more WAL than allowed.
    pub enum OnLimit {
        Warn = "warn",
        Drop = "drop",
    }
}

choice! {
    /// Whether the apply sessions are replicas (no ordinary triggers, no foreign keys).
    pub enum ReplicaRole {
        Auto = "auto",
        On = "on",
        Off = "off",
    }
}

choice! {
    /// Whether COMMIT on the target waits for its disk.
    pub enum SynchronousCommit {
        Off = "off",
        On = "on",
    }
}

choice! {
    /// What a cutover compares before the target is opened.
    pub enum CutoverVerify {
        Changed = "changed",
        Full = "full",
        None = "none",
    }
}

choice! {
    /// The form of what is written to stderr.
    pub enum LogFormat {
        Text = "text",
        Json = "json",
    }
}

choice! {
    /// Whether progress is drawn live.
    pub enum ProgressMode {
        Auto = "auto",
        Never = "never",
    }
}

component! {
    /// Which two databases, and under which name.
    pub struct Databases in "" {
        /// The database to read: whatever libpq takes (URI, keyword/value, `service=`; `.pgpass` and `PG*` variables are honoured).
        /// Default: none; every command that reads the source asks for it.
        pub source: Option<Conninfo> = "",
        /// The database to write, in the same forms.
        /// Default: none; every command asks for it.
        pub target: Option<Conninfo> = "",
        /// A role on the source that owns the tables: used only for the publication, `--keyless full` and the fence of a cutover.
        /// Default: `source` itself.
        pub source_admin: Option<Conninfo> = "",
        /// A role on the target that may create what is to be created: used only for schema, indexes, constraints and for opening it.
        /// Default: `target` itself.
        pub target_admin: Option<Conninfo> = "",
        /// File whose first line is the password for `source` and `source_admin`, so that no secret stands in a command line. It is
        /// read at each connection, so that the password can be rotated under a running process.
        /// Default: none; the connection string, `PGPASSWORD` or `.pgpass` have it.
        pub source_password_file: Option<PathBuf> = "",
        /// Shell command that prints the password for `source` and `source_admin`; run once at the start.
        /// Default: none.
        pub source_password_command: Option<String> = "",
        /// File whose first line is the password for `target` and `target_admin`, read at each connection.
        /// Default: none.
        pub target_password_file: Option<PathBuf> = "",
        /// Shell command that prints the password for `target` and `target_admin`; run once at the start.
        /// Default: none.
        pub target_password_command: Option<String> = "",
        /// Names the run: the slot, the publication, `application_name` on the source, and the run's rows in the target's schema
        /// `walferry`.
        /// Default: one run needs no thought; give another name to a second run into the same target.
        pub name: String = "walferry",
    }
}

component! {
    /// Which tables, by pg_dump's patterns. Without any, every table of every schema but PostgreSQL's own.
    pub struct Select in "select." {
        /// Schemas to take.
        /// Default: all.
        pub schema: Vec<String> = "",
        /// Schemas to leave out; wins over `select.schema`.
        /// Default: none.
        pub exclude_schema: Vec<String> = "",
        /// Tables to take.
        /// Default: all.
        pub table: Vec<String> = "",
        /// Tables to leave out; wins over `select.table`.
        /// Default: none.
        pub exclude_table: Vec<String> = "",
    }
}

component! {
    /// What a run of `migrate` or `replicate` is.
    pub struct RunSettings in "run." {
        /// Existing publications to follow, with their tables, columns, row filters and actions.
        /// Default: none; walferry makes one of its own, named like the run, and drops it with `clean`.
        pub publication: Vec<String> = "",
        /// The replication slot. One that exists already is adopted and never dropped.
        /// Default: named like the run.
        pub slot: Option<String> = "",
        /// The target's tables are there: no schema is restored and no index built; rows are appended; columns match by name.
        /// Default: off, because most targets start empty.
        pub existing_schema: bool = "off",
        /// Nothing is copied: changes from the slot's consistent point on, onto what the target holds.
        /// Default: off.
        pub no_copy: bool = "off",
        /// Tables without a replica identity: `refuse` the run, set REPLICA IDENTITY `full` on the source (`clean` sets it back), or
        /// publish their `inserts` only.
        /// Default: refuse, because the other two change what the source does or what the target gets.
        pub keyless: Keyless = "refuse",
        /// `replicate`: refuse ordinary writers on the target's tables, as `migrate` does until it is opened.
        /// Default: off, because a replica's tables may have writers of their own.
        pub protect: bool = "off",
        /// How changes travel: in this process (`direct`), or through topics that others can read too (`kafka`, see the section kafka).
        /// Default: direct; Kafka is one more system to keep.
        pub via: Via = "direct",
    }
}

component! {
    /// The schema restored into the target.
    pub struct SchemaSettings in "schema." {
        /// Leave out owners, so that everything belongs to the restoring role.
        /// Default: off; roles missing on the target are a finding of `check`.
        pub no_owner: bool = "off",
        /// Leave out GRANT and REVOKE.
        /// Default: off.
        pub no_privileges: bool = "off",
        /// The pg_dump program; it must be at least as new as the source.
        /// Default: the newest found in PATH and in /usr/lib/postgresql.
        pub pg_dump: Option<PathBuf> = "",
    }
}

component! {
    /// The slot on the source.
    pub struct SlotSettings in "slot." {
        /// How long the creation of the slot may wait for transactions that were running before it, prepared ones included.
        /// Default: long enough for a report or a batch; who is in the way is named meanwhile.
        pub wait: Duration = "10min",
        /// Create the slot FAILOVER (source 17 and later), so that it survives the promotion of a standby.
        /// Default: off, because it needs `sync_replication_slots` on the standby.
        pub failover: bool = "off",
    }
}

component! {
    /// How the rows of the snapshot are copied.
    pub struct CopySettings in "copy." {
        /// Sessions that copy at the same time, on each side (also `--jobs`).
        /// Default: one a core of this machine, 2 to 8; beyond that the servers are the limit.
        pub jobs: Jobs = "auto",
        /// Smallest part into which a large table is split (by ctid, source 14 and later).
        /// Default: below it the round trips of a part cost more than the parallelism brings.
        pub chunk_bytes_min: Size = "64MB",
        /// Largest part; parts are about a quarter of what a session has to copy.
        /// Default: what is lost when a part has to be copied again stays within seconds.
        pub chunk_bytes_max: Size = "1GB",
        /// Binary COPY where both sides' column types are the same.
        /// Default: on; 1.7 times as fast as text. Columns that differ travel as text all the same.
        pub binary: bool = "on",
        /// COPY FREEZE into tables that walferry made, so that no later vacuum has to rewrite them.
        /// Default: on.
        pub freeze: bool = "on",
        /// Give the copy up when DDL on the source waits for its locks; the next start copies what is missing.
        /// Default: off, because a nightly ALTER would then starve a long copy; `status` names who waits.
        pub yield_to_ddl: bool = "off",
    }
}

component! {
    /// Indexes and constraints after the load.
    pub struct IndexSettings in "index." {
        /// Sessions that build at the same time (also `--jobs`).
        /// Default: one a core of this machine, 2 to 8.
        pub jobs: Jobs = "auto",
        /// `maintenance_work_mem` of each of these sessions.
        /// Default: large sorts stay in memory; sessions × this must fit beside the target's shared buffers.
        pub maintenance_work_mem: Size = "256MB",
        /// `max_parallel_maintenance_workers` of each of these sessions.
        /// Default: two, PostgreSQL's own.
        pub parallel_workers: usize = "2",
    }
}

component! {
    /// How changes are applied.
    pub struct ApplySettings in "apply." {
        /// Source transactions that are waiting are put into one target transaction until it holds this much; memory follows it. With
        /// nothing waiting, each is committed at once.
        /// Default: past it the cost of a COMMIT no longer shows.
        pub batch_bytes: Size = "16MB",
        /// Changes that may wait between reader and writer.
        /// Default: four batches keep both sides busy.
        pub queue_bytes: Size = "64MB",
        /// From this many inserts in a row into one table on, they travel by COPY.
        /// Default: below it the one or two extra round trips of a COPY cost more than it brings.
        pub copy_threshold: usize = "64",
        /// From this many changes of one kind to one table on, they are one set-based statement.
        /// Default: below it single pipelined statements are as fast and need no plan.
        pub set_threshold: usize = "8",
        /// Changes of one key inside a batch become one, where the key's equality allows it.
        /// Default: on; hot rows become 10 to 1000 times cheaper.
        pub coalesce: bool = "on",
        /// Updates and deletes of a batch are applied in the order of their keys.
        /// Default: on; neighbours share pages, which saves a quarter of the target's work for scattered updates.
        pub sort: bool = "on",
        /// The next batch is prepared while the target works at the present one.
        /// Default: on; costs one batch of memory.
        pub ahead: bool = "on",
        /// Changes travel in binary where every table's types allow it (PostgreSQL's own types but interval, money, xml and a few more, and
        /// enums; the source at 14 or later), as text otherwise. Not through Kafka.
        /// Default: on; it saves both servers the conversion to text and back.
        pub binary: bool = "on",
        /// What is committed is flushed to the target's disk from a session of its own.
        /// Default: on; changes then never wait for the disk. Off: the apply session flushes about ten times a second.
        pub flush_apart: bool = "on",
        /// Apply as replica: `on`, `off`, or as the role's privileges allow.
        /// Default: auto. Without it, constraints and triggers wait until cutover.
        pub replica_role: ReplicaRole = "auto",
        /// `synchronous_commit` of the apply session. The slot moves only past what the target has flushed, either way.
        /// Default: off, because nothing is lost by it: progress and rows are lost together, and sent again.
        pub synchronous_commit: SynchronousCommit = "off",
    }
}

component! {
    /// What a run may cost the source.
    pub struct LimitSettings in "limits." {
        /// WAL that the slot may retain; past it the run says so.
        /// Default: none, because only the operator knows the disk. The source's own `max_slot_wal_keep_size` still counts.
        pub max_retained_wal: Option<Size> = "",
        /// Past the limit: `warn`, or `drop` the slot, which saves the source and ends the run for good.
        /// Default: warn.
        pub on_limit: OnLimit = "warn",
    }
}

component! {
    /// The comparison of both sides.
    pub struct VerifySettings in "verify." {
        /// Sessions that compare at the same time, on each side (also `--jobs`).
        /// Default: one a core of this machine, 2 to 8.
        pub jobs: Jobs = "auto",
        /// Most differing keys that are listed for a table.
        /// Default: enough to see the pattern.
        pub keys: usize = "100",
    }
}

component! {
    /// The hand-over to the target.
    pub struct CutoverSettings in "cutover." {
        /// `migrate`: wait for `walferry cutover` (`manual`), or hand over as soon as the target has caught up (`auto`).
        /// Default: manual, because a person chooses the moment.
        pub mode: CutoverMode = "manual",
        /// Bounds lock, drain and last check together; then everything is rolled back.
        /// Default: what an application's own timeouts usually survive.
        pub timeout: Duration = "60s",
        /// How long one attempt to lock all tables may wait before it lets everybody through again.
        /// Default: below PostgreSQL's `deadlock_timeout`, because writers queue behind it.
        pub lock_timeout: Duration = "500ms",
        /// `auto`: a cutover that was rolled back is tried again after 30 s, then twice as long each time, up to this.
        /// Default: 10 min, because each attempt compares both sides and makes writers queue for a moment.
        pub retry_max: Duration = "10min",
        /// What is compared under the fence: rows `changed` since the full verification before it, everything (`full`), or nothing
        /// (`none`).
        /// Default: changed, which proves as much as full and takes seconds.
        pub verify: CutoverVerify = "changed",
    }
}

component! {
    /// The way through Kafka (`run.via=kafka`): one topic a table, and one with the transactions.
    pub struct KafkaSettings in "kafka." {
        /// The brokers to begin with, `host:port,…`.
        /// Default: none; `--via kafka` asks for it.
        pub brokers: Option<String> = "",
        /// First part of the topics' names: `<prefix>.<schema>.<table>`, `<prefix>.transaction`.
        /// Default: the run's name.
        pub prefix: Option<String> = "",
        /// Partitions of a table's topic, when it is made. The same key is always in the same one, chosen as Kafka's Java clients do.
        /// Default: one, which keeps the order of the whole table for every consumer; walferry itself needs no more.
        pub partitions: usize = "1",
        /// Copies of each topic, when it is made.
        /// Default: three, or as many as there are brokers; with three, writes need two (`min.insync.replicas`).
        pub replication_factor: Option<usize> = "",
        /// How long records stay (`retention.ms`), when a topic is made. It is what WAL retention is without Kafka: a writer that is away for
        /// longer has to start over.
        /// Default: a week, Kafka's own.
        pub retention: Duration = "7d",
        /// Percent of the topics' retention: when what is not applied yet is older than that, the run and `status` warn.
        /// Default: half of it, which leaves as much time to do something as there was.
        pub retention_warning: usize = "50",
        /// Whose topics `write` reads: those of `walferry read`, or those of a Debezium connector, for which no source and no slot are needed.
        /// Default: walferry.
        pub from: From = "walferry",
        /// How values are written: PostgreSQL's own text, which loses nothing (`postgres`), or as Debezium writes them by default (`debezium`).
        /// Default: postgres. One prefix has one of them; a run that has begun keeps to it.
        pub values: KafkaValues = "postgres",
        /// Key and value wrapped as `{"schema":…,"payload":…}`, for consumers that need the schema in every message.
        /// Default: off; it makes messages several times as large.
        pub schemas: bool = "off",
        /// A delete is followed by a message with the same key and no value.
        /// Default: on, as Debezium does.
        pub tombstones: bool = "on",
        /// Events name their transaction, and `<prefix>.transaction` has its BEGIN and END. Only a feed without a writer (`read --create-slot`)
        /// can do without: it is by END that a writer puts transactions together.
        /// Default: on; Debezium's `provide.transaction.metadata` is off, and so it is with a connector file that does not say it.
        pub transactions: bool = "on",
        /// Largest message: of the client, and `max.message.bytes` of a topic when it is made. A larger event stops the run.
        /// Default: large enough for most wide rows; the brokers hold such messages in memory.
        pub message_bytes: Size = "64MB",
        /// Bytes that may be on their way to the brokers.
        /// Default: more does not make it faster.
        pub in_flight_bytes: Size = "32MB",
        /// Bytes that may be fetched ahead, shared by all partitions.
        /// Default: keeps the writer busy while it reads many topics.
        pub fetch_bytes: Size = "64MB",
        /// How the brokers' listener is spoken to; all but `PLAINTEXT`, and `SASL_PLAINTEXT` with `PLAIN`, need a build with the feature
        /// `kafka-tls`.
        /// Default: PLAINTEXT, Kafka's own.
        pub security_protocol: SecurityProtocol = "PLAINTEXT",
        /// How the password is proven. `PLAIN` sends it as it is: only through TLS.
        /// Default: SCRAM-SHA-512, which never sends it.
        pub sasl_mechanism: SaslMechanism = "SCRAM-SHA-512",
        /// The user, for the two protocols with SASL.
        /// Default: none.
        pub sasl_username: Option<String> = "",
        /// The user's password. From the environment (`WALFERRY_KAFKA_SASL_PASSWORD`) or the file of the configuration; refused in a command
        /// line, where everybody on the machine can read it. Not recorded with the run: whatever speaks to the brokers asks for it again.
        /// Default: none.
        pub sasl_password: Option<Secret> = "",
        /// File whose first line is the user's password.
        /// Default: none.
        pub sasl_password_file: Option<PathBuf> = "",
        /// Shell command that prints the user's password; run whenever the stream begins.
        /// Default: none.
        pub sasl_password_command: Option<String> = "",
        /// File with the certificates (PEM) of the authorities that may have signed the brokers' own.
        /// Default: the system's.
        pub ssl_ca: Option<PathBuf> = "",
        /// File with our own certificate (PEM, with those between it and the authority), for brokers that ask for one.
        /// Default: none.
        pub ssl_cert: Option<PathBuf> = "",
        /// File with the private key (PEM) of `kafka.ssl_cert`.
        /// Default: none.
        pub ssl_key: Option<PathBuf> = "",
        /// File whose first line decrypts `kafka.ssl_key`.
        /// Default: none; the key is not encrypted.
        pub ssl_key_password_file: Option<PathBuf> = "",
        /// Whether the brokers' certificate has to name the host that was asked for.
        /// Default: on; without it, whoever has any certificate of the authority can pose as a broker.
        pub ssl_endpoint_identification: bool = "on",
    }
}

choice! {
    /// How numeric and money are written.
    pub enum DecimalMode {
        Precise = "precise",
        Double = "double",
        String = "string",
    }
}

choice! {
    /// How date, time and timestamp are written.
    pub enum TimeMode {
        Adaptive = "adaptive",
        AdaptiveTimeMicroseconds = "adaptive_time_microseconds",
        Connect = "connect",
        Isostring = "isostring",
        Microseconds = "microseconds",
        Nanoseconds = "nanoseconds",
    }
}

choice! {
    /// How bytea is written.
    pub enum BinaryMode {
        Bytes = "bytes",
        Base64 = "base64",
        Base64UrlSafe = "base64-url-safe",
        Hex = "hex",
    }
}

choice! {
    /// How interval is written.
    pub enum IntervalMode {
        Numeric = "numeric",
        String = "string",
    }
}

choice! {
    /// How hstore is written.
    pub enum HstoreMode {
        Json = "json",
        Map = "map",
    }
}

component! {
    /// Events in Debezium's form, under Debezium's names and with its defaults. The modes count with `kafka.values=debezium` alone, and one
    /// prefix has one of each.
    pub struct DebeziumSettings titled "debezium" {
        /// numeric and money: exact, as the unscaled value's bytes in base64 (`precise`), as a JSON number that may be rounded (`double`), or
        /// as text (`string`).
        /// Default: precise, Debezium's.
        pub decimal as "decimal.handling.mode": DecimalMode = "precise",
        /// date, time and timestamp: a number in the unit that the column's precision needs (`adaptive`; with
        /// `adaptive_time_microseconds` time is always in µs), Kafka Connect's types in ms (`connect`), ISO 8601 text (`isostring`), or
        /// always µs or ns.
        /// Default: adaptive, Debezium's; `connect` cuts what is below a millisecond.
        pub time as "time.precision.mode": TimeMode = "adaptive",
        /// bytea: base64 in JSON with the schema of bytes (`bytes`), or text in one of three forms.
        /// Default: bytes, Debezium's.
        pub binary as "binary.handling.mode": BinaryMode = "bytes",
        /// interval: microseconds with a month of 30.4375 days (`numeric`), or ISO 8601 (`string`).
        /// Default: numeric, Debezium's; only `string` keeps months apart from days.
        pub interval as "interval.handling.mode": IntervalMode = "numeric",
        /// hstore: JSON as text (`json`), or an object (`map`).
        /// Default: json, Debezium's.
        pub hstore as "hstore.handling.mode": HstoreMode = "json",
        /// Stands for a value that was not sent, because an update has not changed it and it is stored apart (TOAST).
        /// Default: Debezium's.
        pub unavailable as "unavailable.value.placeholder": String = "__debezium_unavailable_value",
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
        /// Publish the rows that the outbox tables have when the slot is made; source 12 and later.
        /// Default: off, because they were mostly published before, by whatever did it then.
        pub snapshot: bool = "off",
        /// Make the publication that `run.publication` names where it is not there, for the outbox tables alone.
        /// Default: off; a name that is given is one that exists. A connector file's `publication.autocreate.mode` turns it on.
        pub make_publication: bool = "off",
        /// `replicate` and `read`: route the outbox in the same process, from a slot and a publication of its own, named `<name>_outbox`.
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
        /// Rows whose event Kafka has acknowledged are deleted when they are older than this, also by `outbox clean`.
        /// Default: none; nothing is ever deleted.
        pub retention: Option<Duration> = "",
        /// Column that says how old a row is.
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

component! {
    /// How often something that failed is tried again.
    pub struct RetrySettings in "retry." {
        /// Longest pause between two attempts to reach a server.
        /// Default: a restarted server is back in use within seconds.
        pub connection_max: Duration = "5s",
        /// Longest pause before the same transaction or table is tried again after an error that needs a person.
        /// Default: somebody who has fixed the cause doesn't wait for it.
        pub blocked_max: Duration = "30s",
    }
}

component! {
    /// Health and metrics (`--http`), for `migrate`, `replicate`, `read`, `write` and `outbox run`; docs/monitoring.md has the pages.
    pub struct HttpSettings in "http." {
        /// Where to listen: `address:port`, or a port of 127.0.0.1. It serves `/healthz`, `/readyz` and `/metrics`, and changes nothing.
        /// Default: none; nothing listens.
        pub listen: Option<Listen> = "",
        /// Allow an address that other machines reach. The pages need no password and name topics, steps and error codes.
        /// Default: off; a container whose probes come from outside needs it.
        pub expose: bool = "off",
    }
}

component! {
    /// What is written to stderr.
    pub struct LogSettings in "log." {
        /// `text` for people, `json` for one object a line.
        /// Default: text.
        pub format: LogFormat = "text",
        /// Detail from 0 (warnings and errors) over 1 (changes of state) to 3 (protocol).
        /// Default: 1; `-v` adds one, `-q` sets 0.
        pub verbosity: usize = "1",
        /// Live progress on a terminal (`auto`), or a line for each change of state (`never`).
        /// Default: auto.
        pub progress: ProgressMode = "auto",
    }
}
