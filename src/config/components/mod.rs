//! Every configuration key: what it means, in which unit, and why the default is what it is.
//!
//! docs/configuration.md is generated from these lines (`walferry config reference`).

mod kafka;
mod outbox;

use std::path::PathBuf;
use std::time::Duration;

pub use kafka::{
    BinaryMode, DebeziumSettings, DecimalMode, From, HstoreMode, IntervalMode, KafkaSettings, KafkaValues,
    SaslMechanism, SecurityProtocol, TimeMode,
};
pub use outbox::{
    Converter, EventRoute, EventTable, InvalidOperation, MissingField, OutboxSettings, PayloadNulls,
};

use super::component::component;
use super::connection::Conninfo;
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
        /// The pg_dump program; it must be at least as new as the source. With pg_restore in the same folder the source is read once for it.
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
    /// How changes are read from the slot.
    pub struct StreamSettings in "stream." {
        /// What a source on the same host, reached by TCP, sends without a pause is gathered in its socket for up to 12 ms, or for 1 ms while the target is at work on what came before; for up to 50 ms if it was committed more than a second ago.
        /// Default: on; it halves what a backlog costs the source. Changes that come with pauses between them are read at once.
        pub gather: bool = "on",
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
        /// Default: two batches keep both sides busy.
        pub queue_bytes: Size = "32MB",
        /// From this many inserts in a row into one table on, they travel by COPY; so do the first ones into each table, for which no
        /// statement is prepared yet. 0: never.
        /// Default: below it a statement that is prepared costs less than the start of a COPY.
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
        /// The next batch is prepared while the target works at the present one, and tables that are new to it are looked up.
        /// Default: on; costs one batch of memory.
        pub ahead: bool = "on",
        /// Changes travel in binary where every table's types allow it (PostgreSQL's own types but interval, money, xml and a few more, and
        /// enums; the source at 14 or later), as text otherwise. Not through Kafka.
        /// Default: on; it saves both servers the conversion to text and back.
        pub binary: bool = "on",
        /// What is committed is flushed to the target's disk from a session of its own.
        /// Default: on; changes then never wait for the disk. Off: the apply session flushes about ten times a second.
        pub flush_apart: bool = "on",
        /// The pending lists of GIN indexes on the target are merged by a session of its own while many rows come, if the role owns them.
        /// Default: on; merging is most of what a row of such a table costs. Off: the apply session merges them, as any session does.
        pub gin_apart: bool = "on",
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
    /// How often something that failed is tried again.
    pub struct RetrySettings in "retry." {
        /// Longest pause between two attempts to reach a server; at least 100ms.
        /// Default: a restarted server is back in use within seconds.
        pub connection_max: Duration = "5s",
        /// Longest pause before the same transaction or table is tried again after an error that needs a person; at least 100ms.
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
