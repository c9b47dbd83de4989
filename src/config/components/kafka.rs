//! The keys of the way through Kafka, and of events in Debezium's form.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::component::component;
use crate::config::connection::Secret;
use crate::config::value::choice;
use crate::config::{Size, TablePartitions};

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
        /// Partitions of single tables' topics, where they are to have other numbers than `kafka.partitions` when they are made.
        /// Default: none.
        pub table_partitions: TablePartitions = "",
        /// Copies of each topic, when it is made; at least 1.
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
        /// How long a message waits for others to go to the brokers with it, up to 15 minutes. A transaction waits twice: its events, then its END.
        /// Default: 10ms saves the brokers nearly half of their CPU at 500 transactions a second, and makes the delay there 24 ms instead of 8;
        /// a backlog fills its batches by itself.
        pub linger: Duration = "1ms",
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
