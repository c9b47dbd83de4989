//! What a feed is made of before it starts.

use super::{Feed, Lane, servers};
use crate::support::oracle::{Events, Scope};
use crate::support::{Kafka, Walferry};

/// A way to apply the same changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a user runs it.
    Default,
    /// Whatever can be a set or a COPY is one.
    Sets,
    /// Every change by itself, in WAL order, and nothing that is there only to be quick.
    Rows,
    /// Sets and COPY, of values that travel as text.
    Text,
    /// Pieces of 64 kB: a transaction of more passes through one target transaction in parts.
    Pieces,
    /// Foreign keys and ordinary triggers fire.
    Origin,
}

impl Way {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Way::Default => &[],
            Way::Sets => &["apply.copy_threshold=1", "apply.set_threshold=1"],
            Way::Rows => &[
                "apply.coalesce=off",
                "apply.copy_threshold=0",
                "apply.set_threshold=0",
                "apply.binary=off",
                "apply.sort=off",
                "apply.ahead=off",
                "apply.flush_apart=off",
                "apply.gin_apart=off",
            ],
            Way::Text => &["apply.copy_threshold=1", "apply.set_threshold=1", "apply.binary=off"],
            Way::Pieces => &["apply.batch_bytes=64kB"],
            Way::Origin => &["apply.replica_role=off"],
        }
    }
}

pub struct Builder {
    schema: String,
    majors: (u32, u32),
    own_servers: bool,
    target_schema: Option<String>,
    database_options: String,
    arguments: Vec<String>,
    ways: Vec<Way>,
    events: bool,
    target_role: Option<String>,
    scope: Scope,
    kafka: Option<(String, String)>,
    services: bool,
    environment: Vec<(String, String)>,
}

impl Builder {
    pub(super) fn new(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            majors: (15, 15),
            own_servers: false,
            target_schema: None,
            database_options: String::new(),
            arguments: Vec::new(),
            ways: vec![Way::Sets, Way::Rows],
            events: true,
            target_role: None,
            scope: Scope::default(),
            kafka: None,
            services: false,
            environment: Vec::new(),
        }
    }

    pub fn majors(mut self, source: u32, target: u32) -> Self {
        self.majors = (source, target);
        self
    }

    /// Servers that no other test uses.
    pub fn own_servers(mut self) -> Self {
        self.own_servers = true;
        self
    }

    /// The target's tables are there: `--existing-schema`.
    pub fn into(mut self, schema: &str) -> Self {
        self.target_schema = Some(schema.to_owned());
        self
    }

    /// As `into`, with the source's own statements.
    pub fn into_same(self) -> Self {
        let schema = self.schema.clone();
        self.into(&schema)
    }

    /// What follows CREATE DATABASE on the source.
    pub fn source_database(mut self, options: &str) -> Self {
        options.clone_into(&mut self.database_options);
        self
    }

    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The changes travel through this broker; every lane has topics of its own, `<prefix>_<way>`.
    pub fn via(self, kafka: &Kafka, prefix: &str) -> Self {
        self.via_brokers(&kafka.brokers(), prefix)
    }

    /// As `via`, given what `--brokers` takes.
    pub fn via_brokers(mut self, brokers: &str, prefix: &str) -> Self {
        self.kafka = Some((brokers.to_owned(), prefix.to_owned()));
        self
    }

    /// A variable in the environment of the runs.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Two processes, `read` and `write`, with the broker between them.
    pub fn services(mut self) -> Self {
        self.services = true;
        self
    }

    pub fn set(self, key_value: &str) -> Self {
        self.arg("--set").arg(key_value)
    }

    pub fn ways(mut self, ways: &[Way]) -> Self {
        self.ways = ways.to_vec();
        self
    }

    /// Without C2: where the source's events and ours differ by design.
    pub fn without_events(mut self) -> Self {
        self.events = false;
        self
    }

    /// The role that walferry uses on the target, as `name` or `name:password`.
    pub fn target_role(mut self, role: &str) -> Self {
        self.target_role = Some(role.to_owned());
        self
    }

    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Makes the databases and starts the runs; returns when they are live.
    pub async fn start(self) -> Feed {
        let mut feed = self.spawn().await;
        feed.wait_live().await;
        feed
    }

    /// As `start`, without waiting.
    pub async fn spawn(self) -> Feed {
        let mut feed = self.prepare().await;
        feed.restart().await;
        feed
    }

    /// The databases alone; `Feed::restart` starts the runs.
    pub async fn prepare(self) -> Feed {
        let (source, target) = if self.own_servers {
            tokio::join!(servers::own(self.majors.0), servers::own(self.majors.1))
        } else {
            tokio::join!(servers::shared(self.majors.0, "source"), servers::shared(self.majors.1, "target"))
        };
        let database = servers::name();
        source.create_database_with(&database, &self.database_options).await;
        source.sql(&database, &self.schema).await;
        let events = match self.events {
            true => Some(Events::record(source, &database).await),
            false => None,
        };
        let mut lanes = Vec::new();
        for way in &self.ways {
            let lane = format!("{database}_{way:?}").to_lowercase();
            target.create_database(&lane).await;
            if let Some(schema) = &self.target_schema {
                target.sql(&lane, schema).await;
            }
            let uri = match &self.target_role {
                Some(role) => target.uri_as(role, &lane),
                None => target.uri(&lane),
            };
            let walferry = Walferry::new(&source.uri(&database), &uri).name(&lane);
            let walferry = self.environment.iter().fold(walferry, |run, (name, value)| run.env(name, value));
            let verb = if self.services { "write" } else { "replicate" };
            let mut command = walferry.command(verb).args(&["-v", "--progress", "never"]);
            // Without a way to the target.
            let mut reader =
                walferry.command("read").args(&["-v", "--progress", "never"]).env("WALFERRY_TARGET", "");
            if self.target_schema.is_some() {
                command = command.arg("--existing-schema");
            }
            if let Some((brokers, prefix)) = &self.kafka {
                let prefix = format!("{prefix}_{way:?}").to_lowercase();
                if !self.services {
                    command = command.args(&["--via", "kafka"]);
                }
                command = command.args(&["--brokers", brokers, "--prefix", &prefix]);
                reader = reader.args(&["--brokers", brokers, "--prefix", &prefix]);
            }
            for setting in way.settings() {
                command = command.args(&["--set", setting]);
            }
            for argument in &self.arguments {
                command = command.arg(argument);
                reader = reader.arg(argument);
            }
            let client = target.connect(&lane).await;
            let reader_command = self.services.then_some(reader);
            lanes.push(Lane {
                way: *way,
                database: lane,
                walferry,
                running: None,
                reader: None,
                command,
                reader_command,
                target: client,
            });
        }
        Feed { source, target, database, lanes, scope: self.scope, events }
    }
}

impl Feed {
    pub async fn wait_live(&mut self) {
        for lane in &mut self.lanes {
            lane.wait_live().await;
        }
    }
}
