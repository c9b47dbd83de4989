//! What `outbox init` installs: a table of one of the usual layouts, and `walferry.emit`.

use pg::{Error, Result, ServerVersion, quote_ident, quote_literal};

use super::plan::MESSAGES_SINCE;
use super::{name, record};

/// A layout of the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Layout {
    /// No table: events are logical messages
    Messages,
    /// (id, aggregatetype, aggregateid, type, payload), Debezium's
    Debezium,
    /// Debezium's with a column timestamp
    DebeziumTimestamp,
    /// (id, aggregate_id uuid, aggregate_type, event_type, payload, created_at timestamptz)
    Uuid,
    /// (id, aggregate_type, aggregate_id, event_type, payload, created_at timestamptz), ids as text
    Text,
    /// As text, partitioned by day: cleanup drops whole partitions
    Partitioned,
}

/// Days for which a partitioned outbox has partitions: today and these.
pub const DAYS_AHEAD: u32 = 3;

/// What to install.
pub struct Install {
    pub layout: Layout,
    /// The table's name as it is given.
    pub table: String,
    /// Prefix of `walferry.emit`'s messages.
    pub prefix: String,
    /// Roles that emit.
    pub emitters: Vec<String>,
    /// The role of `outbox run`.
    pub runner: Option<String>,
    /// The publication of the run, made for a runner that may not.
    pub publication: String,
}

impl Install {
    /// The statements, in order; each can be run again.
    ///
    /// # Errors
    /// The layout needs a newer server.
    pub fn sql(&self, version: ServerVersion) -> Result<Vec<String>> {
        let major = version.major();
        let too_old = |what: &str, since: u32| {
            Error::refuse("OUTBOX_LAYOUT", format!("layout {what} needs a source of {since} or later"))
                .hint("walferry outbox init --layout text")
        };
        if self.layout == Layout::Messages && major < MESSAGES_SINCE {
            return Err(too_old("messages", MESSAGES_SINCE));
        }
        if self.layout == Layout::Partitioned && major < 13 {
            return Err(too_old("partitioned", 13));
        }
        let mut sql = Vec::new();
        let table = name::new(&self.table);
        sql.extend(self.columns(major).map(|columns| {
            let partition =
                if self.layout == Layout::Partitioned { " PARTITION BY RANGE (created_at)" } else { "" };
            format!("CREATE TABLE IF NOT EXISTS {table} ({columns}){partition}")
        }));
        if self.layout == Layout::Partitioned {
            sql.push(partitions(&self.table));
        }
        if matches!(self.layout, Layout::Uuid | Layout::Text | Layout::DebeziumTimestamp) {
            let column =
                if self.layout == Layout::DebeziumTimestamp { "\"timestamp\"" } else { "created_at" };
            sql.push(format!("CREATE INDEX IF NOT EXISTS {} ON {table} ({column})", index_name(&self.table)));
        }
        sql.push("CREATE SCHEMA IF NOT EXISTS walferry".to_owned());
        sql.push(self.emit(major));
        sql.push(record::TABLES.trim_end_matches(';').to_owned());
        sql.push("GRANT USAGE ON SCHEMA walferry TO PUBLIC".to_owned());
        for role in &self.emitters {
            let role = quote_ident(role);
            sql.push(format!(
                "GRANT EXECUTE ON FUNCTION walferry.emit(text, text, text, jsonb, jsonb) TO {role}"
            ));
            if self.layout != Layout::Messages {
                sql.push(format!("GRANT INSERT ON {table} TO {role}"));
            }
        }
        if let Some(role) = &self.runner {
            sql.extend(self.runner_grants(role));
            sql.push(self.publish(major));
        }
        Ok(sql)
    }

    /// What the run's role needs beyond LOGIN and REPLICATION.
    fn runner_grants(&self, role: &str) -> Vec<String> {
        let role = quote_ident(role);
        let mut grants =
            vec![format!("GRANT SELECT, INSERT, UPDATE, DELETE ON walferry.outbox_slots TO {role}")];
        if self.layout != Layout::Messages {
            if let Some(schema) = name::schema(&self.table) {
                grants.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
            }
            grants.push(format!("GRANT SELECT, DELETE ON {} TO {role}", name::new(&self.table)));
        }
        grants
    }

    /// A DO block, because there is no CREATE PUBLICATION IF NOT EXISTS.
    fn publish(&self, major: u32) -> String {
        let mut create = format!("CREATE PUBLICATION {}", quote_ident(&self.publication));
        if self.layout != Layout::Messages {
            create += &format!(" FOR TABLE {}", name::new(&self.table));
        }
        let truncate = if major >= 11 { ", truncate" } else { "" };
        let root = if major >= 13 { ", publish_via_partition_root = true" } else { "" };
        create += &format!(" WITH (publish = 'insert, update, delete{truncate}'{root})");
        format!(
            "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {}) THEN {create}; END IF; END $do$",
            quote_literal(&self.publication)
        )
    }

    fn columns(&self, major: u32) -> Option<String> {
        let id = format!("id uuid PRIMARY KEY DEFAULT {}", random_uuid(major));
        Some(match self.layout {
            Layout::Messages => return None,
            Layout::Debezium => format!(
                "{id}, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb"
            ),
            // Debezium's router takes no timestamptz, and takes the time to be UTC's.
            Layout::DebeziumTimestamp => format!(
                "{id}, aggregateid varchar(255) NOT NULL, aggregatetype varchar(255) NOT NULL, type varchar(255) NOT NULL, \
                 payload jsonb NOT NULL, \"timestamp\" timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')"
            ),
            Layout::Uuid => format!(
                "{id}, aggregate_id uuid NOT NULL, aggregate_type varchar(50) NOT NULL, event_type varchar(50) NOT NULL, \
                 payload jsonb NOT NULL, created_at timestamptz DEFAULT current_timestamp"
            ),
            Layout::Text => format!(
                "{id}, aggregate_type varchar(255) NOT NULL, aggregate_id varchar(255) NOT NULL, event_type varchar(255) NOT NULL, \
                 payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now()"
            ),
            Layout::Partitioned => format!(
                "id uuid NOT NULL DEFAULT {}, aggregate_type text NOT NULL, aggregate_id text NOT NULL, event_type text NOT NULL, \
                 payload jsonb, created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (id, created_at)",
                random_uuid(major)
            ),
        })
    }

    /// `walferry.emit`: a logical message where the server passes those on, else a row of the table.
    fn emit(&self, major: u32) -> String {
        let body = if major >= MESSAGES_SINCE {
            format!(
                "PERFORM pg_catalog.pg_logical_emit_message(true, {}, pg_catalog.json_build_object('id', event, 'aggregate_type', aggregate_type, \
                 'aggregate_id', aggregate_id, 'event_type', event_type, 'payload', payload, 'headers', headers)::text);",
                quote_literal(&self.prefix)
            )
        } else {
            let (columns, aggregate_id) = match self.layout {
                Layout::Debezium | Layout::DebeziumTimestamp => {
                    ("aggregatetype, aggregateid, type", "aggregate_id")
                }
                Layout::Uuid => ("aggregate_type, aggregate_id, event_type", "aggregate_id::uuid"),
                _ => ("aggregate_type, aggregate_id, event_type", "aggregate_id"),
            };
            format!(
                "IF headers <> '{{}}' THEN RAISE EXCEPTION 'the outbox table has no column for headers'; END IF;\n  \
                 INSERT INTO {} (id, {columns}, payload) VALUES (event, emit.aggregate_type, emit.{aggregate_id}, emit.event_type, emit.payload);",
                name::new(&self.table)
            )
        };
        format!(
            "CREATE OR REPLACE FUNCTION walferry.emit(aggregate_type text, aggregate_id text, event_type text, payload jsonb, \
             headers jsonb DEFAULT '{{}}') RETURNS uuid LANGUAGE plpgsql AS $emit$\nDECLARE event uuid := {};\nBEGIN\n  \
             IF aggregate_type IS NULL THEN RAISE EXCEPTION 'aggregate_type is NULL: it chooses the topic'; END IF;\n  {body}\n  \
             RETURN event;\nEND $emit$",
            random_uuid(major)
        )
    }
}

fn random_uuid(major: u32) -> &'static str {
    if major >= 13 {
        "pg_catalog.gen_random_uuid()"
    } else {
        "pg_catalog.md5(pg_catalog.random()::text || pg_catalog.clock_timestamp()::text)::uuid"
    }
}

fn index_name(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or(table).trim_matches('"');
    quote_ident(&format!("{name}_created_at_idx"))
}

/// Makes the partitions of today and the days ahead, and a default one, so that no insert ever fails for want of one.
pub fn partitions(table: &str) -> String {
    let parent = quote_literal(&name::new(table));
    format!(
        "DO $do$ DECLARE
  parent regclass := {parent}::regclass;
  prefix text;
  name text;
  day date;
BEGIN
  SELECT n.nspname, c.relname INTO STRICT prefix, name FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent;
  FOR ahead IN 0..{DAYS_AHEAD} LOOP
    day := (pg_catalog.now() AT TIME ZONE 'UTC')::date + ahead;
    IF pg_catalog.to_regclass(pg_catalog.format('%I.%I', prefix, name || pg_catalog.to_char(day, '_YYYYMMDD'))) IS NULL THEN
      EXECUTE pg_catalog.format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', prefix,
        name || pg_catalog.to_char(day, '_YYYYMMDD'), parent, day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
    END IF;
  END LOOP;
  IF pg_catalog.to_regclass(pg_catalog.format('%I.%I', prefix, name || '_default')) IS NULL THEN
    EXECUTE pg_catalog.format('CREATE TABLE %I.%I PARTITION OF %s DEFAULT', prefix, name || '_default', parent);
  END IF;
END $do$"
    )
}
