//! Options that several commands share, and which configuration key each one sets.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args};

use crate::config::{
    CutoverMode, KafkaValues, Keyless, Layers, LogFormat, OnLimit, Origin, ProgressMode, Via,
};

/// Puts what was given on the command line into the strongest layer.
pub struct Flags<'a>(pub &'a mut Layers);

impl Flags<'_> {
    pub fn text(&mut self, key: &str, flag: &'static str, value: &Option<String>) {
        if let Some(value) = value {
            self.0.assign(key, vec![value.clone()], Origin::Flag(flag));
        }
    }

    pub fn list(&mut self, key: &str, flag: &'static str, values: &[String]) {
        if !values.is_empty() {
            self.0.assign(key, values.to_vec(), Origin::Flag(flag));
        }
    }

    /// A command that is one half of a run, with Kafka between them.
    pub fn through_kafka(&mut self, command: &'static str) {
        self.0.assign("run.via", vec!["kafka".to_owned()], Origin::Flag(command));
    }

    pub fn on(&mut self, key: &str, flag: &'static str, given: bool) {
        if given {
            self.0.assign(key, vec!["on".to_owned()], Origin::Flag(flag));
        }
    }
}

/// A group of options.
pub trait Overrides {
    fn assign(&self, flags: &mut Flags<'_>);
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Database to read: URI, keyword/value or service=NAME, as libpq takes it [env: WALFERRY_SOURCE]
    #[arg(long, value_name = "URI", global = true)]
    pub source: Option<String>,
    /// Database to write, in the same forms [env: WALFERRY_TARGET]
    #[arg(long, value_name = "URI", global = true)]
    pub target: Option<String>,
    /// Role on the source that owns the tables; used only for publication, --keyless full and the fence [default: --source]
    #[arg(long, value_name = "URI", global = true)]
    pub source_admin: Option<String>,
    /// Role on the target that may create tables; used only for schema, indexes and opening it [default: --target]
    #[arg(long, value_name = "URI", global = true)]
    pub target_admin: Option<String>,
    /// Name of the run: slot, publication, application_name, and its rows in schema walferry [default: walferry]
    #[arg(long, value_name = "NAME", global = true)]
    pub name: Option<String>,
    /// Configuration file (TOML); docs/configuration.md lists the keys [env: WALFERRY_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Sets any configuration key, e.g. --set apply.batch_bytes=32MB; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub sets: Vec<String>,
    /// Sessions at the same time on each side, for copy, indexes and verify [default: cores, 2 to 8]
    #[arg(long, short, value_name = "N", global = true)]
    pub jobs: Option<String>,
    /// Form of what goes to stderr: lines for people, or one JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(LogFormat::WORDS), global = true)]
    pub log_format: Option<String>,
    /// More detail; may be repeated
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Warnings and errors only
    #[arg(short, long, conflicts_with = "verbose", global = true)]
    pub quiet: bool,
    /// Live progress on a terminal (auto), or a line for each change of state (never) [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(ProgressMode::WORDS), global = true)]
    pub progress: Option<String>,
}

impl Overrides for Common {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("source", "--source", &self.source);
        flags.text("target", "--target", &self.target);
        flags.text("source_admin", "--source-admin", &self.source_admin);
        flags.text("target_admin", "--target-admin", &self.target_admin);
        flags.text("name", "--name", &self.name);
        for key in ["copy.jobs", "index.jobs", "verify.jobs"] {
            flags.text(key, "--jobs", &self.jobs);
        }
        flags.text("log.format", "--log-format", &self.log_format);
        flags.text("log.progress", "--progress", &self.progress);
        if self.quiet {
            flags.text("log.verbosity", "--quiet", &Some("0".to_owned()));
        } else if self.verbose > 0 {
            flags.text("log.verbosity", "--verbose", &Some((1 + self.verbose).min(3).to_string()));
        }
    }
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which tables (patterns as in pg_dump; each may be repeated)")]
pub struct Selection {
    /// Only schemas that match
    #[arg(long, value_name = "PATTERN")]
    pub schema: Vec<String>,
    /// No schema that matches
    #[arg(long, value_name = "PATTERN")]
    pub exclude_schema: Vec<String>,
    /// Only tables that match
    #[arg(long, value_name = "PATTERN")]
    pub table: Vec<String>,
    /// No table that matches
    #[arg(long, value_name = "PATTERN")]
    pub exclude_table: Vec<String>,
}

impl Overrides for Selection {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.list("select.schema", "--schema", &self.schema);
        flags.list("select.exclude_schema", "--exclude-schema", &self.exclude_schema);
        flags.list("select.table", "--table", &self.table);
        flags.list("select.exclude_table", "--exclude-table", &self.exclude_table);
    }
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What is restored")]
pub struct Restore {
    /// The target's tables are there: no schema, no indexes; rows are appended, columns matched by name
    #[arg(long)]
    pub existing_schema: bool,
    /// Everything belongs to the restoring role
    #[arg(long)]
    pub no_owner: bool,
    /// No GRANT and no REVOKE
    #[arg(long)]
    pub no_privileges: bool,
}

impl Overrides for Restore {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.on("run.existing_schema", "--existing-schema", self.existing_schema);
        flags.on("schema.no_owner", "--no-owner", self.no_owner);
        flags.on("schema.no_privileges", "--no-privileges", self.no_privileges);
    }
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What the run follows")]
pub struct Follow {
    #[command(flatten)]
    pub origin: Origins,
    /// How changes travel [default: direct]
    #[arg(long, value_name = "WAY", value_parser = PossibleValuesParser::new(Via::WORDS))]
    pub via: Option<String>,
    #[command(flatten)]
    pub kafka: Kafka,
}

impl Overrides for Follow {
    fn assign(&self, flags: &mut Flags<'_>) {
        self.origin.assign(flags);
        flags.text("run.via", "--via", &self.via);
        self.kafka.assign(flags);
    }
}

/// Publication and slot, and how much they may cost the source.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What the run follows")]
pub struct Origins {
    /// Existing publications with their tables, columns, row filters and actions [default: walferry makes one]
    #[arg(long, value_name = "NAME[,NAME…]")]
    pub publication: Vec<String>,
    /// Replication slot; one that exists is adopted and never dropped [default: named like the run]
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
    /// Copy nothing: changes from the slot's consistent point on, onto what the target holds
    #[arg(long)]
    pub no_copy: bool,
    /// Tables without a replica identity: refuse; set REPLICA IDENTITY FULL on the source; or publish their inserts only
    /// [default: refuse]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(Keyless::WORDS))]
    pub keyless: Option<String>,
    /// Give the copy up when DDL on the source waits for it
    #[arg(long)]
    pub yield_to_ddl: bool,
    /// WAL that the slot may retain on the source, e.g. 50GB; past it the run says so [default: no limit of ours]
    #[arg(long, value_name = "SIZE")]
    pub max_retained_wal: Option<String>,
    /// Past that limit: say so, or drop the slot, which saves the source and ends the run for good [default: warn]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(OnLimit::WORDS))]
    pub on_limit: Option<String>,
}

impl Overrides for Origins {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.list("run.publication", "--publication", &self.publication);
        flags.text("run.slot", "--slot", &self.slot);
        flags.on("run.no_copy", "--no-copy", self.no_copy);
        flags.text("run.keyless", "--keyless", &self.keyless);
        flags.on("copy.yield_to_ddl", "--yield-to-ddl", self.yield_to_ddl);
        flags.text("limits.max_retained_wal", "--max-retained-wal", &self.max_retained_wal);
        flags.text("limits.on_limit", "--on-limit", &self.on_limit);
    }
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Through Kafka")]
pub struct Kafka {
    /// Brokers to begin with
    #[arg(long, value_name = "HOST:PORT[,…]")]
    pub brokers: Option<String>,
    /// First part of the topics' names [default: the run's name]
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Partitions of a table's topic, when it is made [default: 1]
    #[arg(long, value_name = "N")]
    pub partitions: Option<String>,
    /// How values are written: PostgreSQL's text, which loses nothing, or Debezium's encodings [default: postgres]
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(KafkaValues::WORDS))]
    pub values: Option<String>,
    /// Wrap keys and values with their schema
    #[arg(long)]
    pub schemas: bool,
    /// No message without a value after a delete
    #[arg(long)]
    pub no_tombstones: bool,
}

impl Overrides for Kafka {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("kafka.brokers", "--brokers", &self.brokers);
        flags.text("kafka.prefix", "--prefix", &self.prefix);
        flags.text("kafka.partitions", "--partitions", &self.partitions);
        flags.text("kafka.values", "--values", &self.values);
        flags.on("kafka.schemas", "--schemas", self.schemas);
        if self.no_tombstones {
            flags.text("kafka.tombstones", "--no-tombstones", &Some("off".to_owned()));
        }
    }
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Health and metrics")]
pub struct Http {
    /// Serve /healthz, /readyz and /metrics there, e.g. 127.0.0.1:9187 or a port alone; an address that others reach needs
    /// --set http.expose=on [default: nothing listens]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
}

impl Overrides for Http {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("http.listen", "--http", &self.http);
    }
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Once, at this start")]
pub struct Resync {
    /// Copy these tables again, each at an LSN of its own, then go on ('*' for all): what was lost of them before is no loss any more
    #[arg(long, value_name = "PATTERN")]
    pub resync: Vec<String>,
}

#[derive(Args, Clone, Debug, Default)]
pub struct CutoverChoice {
    /// Hand over when `walferry cutover` is called (manual), or as soon as the target has caught up (auto) [default: manual]
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(CutoverMode::WORDS))]
    pub cutover: Option<String>,
}

impl Overrides for CutoverChoice {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("cutover.mode", "--cutover", &self.cutover);
    }
}
