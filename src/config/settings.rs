//! The effective configuration of one command.

use kafka::{Mechanism, Protocol, Security};
use pg::{Error, Params, Result};
use serde_json::{Map, Value as Json};

use super::connection::{Conninfo, PasswordSource};
use super::layers::{Effective, Layers, Origin, Reader};
use super::ranges;
use super::value::unquote;
use super::{
    ApplySettings, CaptureSettings, Component, CopySettings, CutoverSettings, Databases, DebeziumSettings,
    EventRoute, EventTable, Field, HttpSettings, IndexSettings, KafkaSettings, LimitSettings, LogSettings,
    OnLimit, OutboxSettings, RetrySettings, RunSettings, SaslMechanism, SchemaSettings, SecurityProtocol,
    Select, SlotSettings, StreamSettings, VerifySettings, Via,
};

macro_rules! settings {
    ($( $(#[doc = $doc:expr])* $field:ident : $component:ident, )*) => {
        /// Everything that a command can be told. Built once; whoever needs a part gets that part.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $( $(#[doc = $doc])* pub $field: $component, )*
            /// Each key with its value in force and where that came from.
            pub effective: Vec<Effective>,
        }

        /// The components in the order of the reference: title, about, fields.
        #[must_use]
        pub fn components() -> Vec<(&'static str, &'static [&'static str], &'static [Field])> {
            vec![$( ($component::TITLE, $component::ABOUT, $component::FIELDS), )*]
        }

        fn read_all(reader: &mut Reader<'_>) -> Option<Settings> {
            $( let $field = $component::read(reader); )*
            Some(Settings { $( $field: $field?, )* effective: std::mem::take(&mut reader.effective) })
        }
    };
}

settings! {
    databases: Databases,
    select: Select,
    run: RunSettings,
    schema: SchemaSettings,
    slot: SlotSettings,
    copy: CopySettings,
    index: IndexSettings,
    stream: StreamSettings,
    apply: ApplySettings,
    kafka: KafkaSettings,
    capture: CaptureSettings,
    debezium: DebeziumSettings,
    outbox: OutboxSettings,
    event_table: EventTable,
    event_route: EventRoute,
    limits: LimitSettings,
    verify: VerifySettings,
    cutover: CutoverSettings,
    retry: RetrySettings,
    http: HttpSettings,
    log: LogSettings,
}

/// Every key there is.
#[must_use]
pub fn fields() -> Vec<&'static Field> {
    components().into_iter().flat_map(|(_, _, fields)| fields).collect()
}

/// Which databases a command can't do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    Nothing,
    Target,
    Source,
    /// The brokers alone.
    Brokers,
    Both,
}

/// Keys that say where to connect and what to show; all others belong to the run and are recorded with it.
fn of_the_process(key: &str) -> bool {
    Databases::FIELDS.iter().any(|field| field.key == key)
        || key.starts_with("log.")
        || key.starts_with("http.")
}

/// Whether a key is kept with the run, and believed when it is read back: no way to a secret is, least of all a command.
pub(super) fn is_recorded(key: &str) -> bool {
    match key {
        "source" | "source_admin" | "target_admin" => true,
        _ => !of_the_process(key) && !key.contains("password"),
    }
}

impl Settings {
    /// Reads all layers; the error lists every problem of every layer.
    pub fn read(layers: &Layers, needs: Needs) -> Result<Settings> {
        let mut reader = Reader::new(layers);
        let mut settings = read_all(&mut reader);
        if let Some(settings) = &mut settings {
            // The quotes stay in `effective`, to be read back.
            settings.run.publication = unquote(std::mem::take(&mut settings.run.publication));
        }
        let mut problems = reader.problems;
        if let Some(settings) = &settings {
            settings.check(needs, &mut problems);
            problems.extend(ranges::problems(settings));
        }
        // One option may set several keys (--jobs), and is wrong once.
        let mut said = std::collections::HashSet::new();
        problems.retain(|problem| said.insert(problem.clone()));
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(refusal(problems)),
        }
    }

    /// What no single key can tell.
    fn check(&self, needs: Needs, problems: &mut Vec<String>) {
        let databases = &self.databases;
        if matches!(needs, Needs::Source | Needs::Both) && databases.source.is_none() {
            problems.push("no source: give --source URI or WALFERRY_SOURCE".to_owned());
        }
        if matches!(needs, Needs::Target | Needs::Both) && databases.target.is_none() {
            problems.push("no target: give --target URI or WALFERRY_TARGET".to_owned());
        }
        for (side, file, command) in [
            ("source", &databases.source_password_file, &databases.source_password_command),
            ("target", &databases.target_password_file, &databases.target_password_command),
        ] {
            if file.is_some() && command.is_some() {
                problems.push(format!("{side}_password_file and {side}_password_command exclude each other"));
            }
        }
        // The slot is named like the run, and slot names are the narrowest of all.
        let slot = self.slot_name();
        if slot.is_empty()
            || slot.len() > 63
            || !slot.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            let key = if self.run.slot.is_some() { "--slot" } else { "--name" };
            problems.push(format!(
                "{key}: a slot's name has 1 to 63 characters, each a lower-case letter, a digit or an underscore"
            ));
        }
        if self.run.via == Via::Kafka
            && matches!(needs, Needs::Source | Needs::Both)
            && self.kafka.brokers.is_none()
        {
            problems.push("no brokers: give --brokers HOST:PORT,… or kafka.brokers".to_owned());
        }
        let of_kafka: Vec<&str> = self.effective.iter().filter_map(Effective::flag_of_kafka).collect();
        if matches!(needs, Needs::Target | Needs::Both)
            && self.run.via == Via::Direct
            && !self.outbox.beside
            && !of_kafka.is_empty()
        {
            problems.push(format!("only with --via kafka: {}", of_kafka.join(", ")));
        }
        if self.run.via == Via::Kafka && needs == Needs::Both && !self.kafka.transactions {
            problems.push(
                "kafka.transactions=off: a writer puts transactions together by their END; only read --create-slot can do without"
                    .to_owned(),
            );
        }
        match self.capture.topic_route() {
            Ok(Some(_)) if self.run.via == Via::Kafka && needs == Needs::Both => problems.push(
                "capture.topic_regex: a writer needs a topic for each table; it is for feeds (read --create-slot)".to_owned(),
            ),
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
        let kafka = &self.kafka;
        let (protocol, mechanism) = self.kafka_protocol();
        problems.extend(protocol.lacks(mechanism));
        let passwords = [
            kafka.sasl_password.is_some(),
            kafka.sasl_password_file.is_some(),
            kafka.sasl_password_command.is_some(),
        ];
        if passwords.iter().filter(|given| **given).count() > 1 {
            problems.push(
                "kafka.sasl_password, kafka.sasl_password_file and kafka.sasl_password_command exclude each other"
                    .to_owned(),
            );
        }
        // A run that was recorded with it can still be looked at.
        let on_limit = self.effective.iter().find(|e| e.key == "limits.on_limit").map(|e| &e.origin);
        if self.limits.on_limit == OnLimit::Drop
            && self.limits.max_retained_wal.is_none()
            && matches!(needs, Needs::Source | Needs::Both)
            && on_limit != Some(&Origin::Run)
        {
            problems.push(
                "limits.on_limit=drop needs limits.max_retained_wal, a size past which the slot is dropped: give --max-retained-wal SIZE"
                    .to_owned(),
            );
        }
        if self.copy.chunk_bytes_min > self.copy.chunk_bytes_max {
            problems.push("copy.chunk_bytes_min is larger than copy.chunk_bytes_max".to_owned());
        }
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.databases.name
    }

    /// The slot's name: the run's, unless told otherwise.
    #[must_use]
    pub fn slot_name(&self) -> &str {
        self.run.slot.as_deref().unwrap_or(self.name())
    }

    /// The first part of the topics' names.
    #[must_use]
    pub fn kafka_prefix(&self) -> &str {
        self.kafka.prefix.as_deref().unwrap_or(self.name())
    }

    /// `security.protocol` and `sasl.mechanism`.
    #[must_use]
    pub fn kafka_protocol(&self) -> (Protocol, Mechanism) {
        let protocol = match self.kafka.security_protocol {
            SecurityProtocol::Plaintext => Protocol::Plaintext,
            SecurityProtocol::Ssl => Protocol::Ssl,
            SecurityProtocol::SaslPlaintext => Protocol::SaslPlaintext,
            SecurityProtocol::SaslSsl => Protocol::SaslSsl,
        };
        let mechanism = match self.kafka.sasl_mechanism {
            SaslMechanism::Plain => Mechanism::Plain,
            SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
            SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
        };
        (protocol, mechanism)
    }

    /// How the brokers know us, and we them. Reads the password anew.
    ///
    /// # Errors
    /// Class `Usage`: the password can't be read.
    pub fn kafka_security(&self) -> Result<Security> {
        let kafka = &self.kafka;
        let source = PasswordSource {
            file: kafka.sasl_password_file.clone(),
            command: kafka.sasl_password_command.clone(),
        };
        let of_key = PasswordSource { file: kafka.ssl_key_password_file.clone(), command: None };
        let (protocol, mechanism) = self.kafka_protocol();
        Ok(Security {
            protocol,
            mechanism,
            username: kafka.sasl_username.clone(),
            password: match &kafka.sasl_password {
                Some(password) => Some(password.get()),
                None => source.read()?,
            },
            ca: kafka.ssl_ca.clone(),
            certificate: kafka.ssl_cert.clone(),
            key: kafka.ssl_key.clone(),
            key_password: of_key.read()?,
            host_name: kafka.ssl_endpoint_identification,
        })
    }

    fn source_password(&self) -> PasswordSource {
        let databases = &self.databases;
        PasswordSource {
            file: databases.source_password_file.clone(),
            command: databases.source_password_command.clone(),
        }
    }

    fn target_password(&self) -> PasswordSource {
        let databases = &self.databases;
        PasswordSource {
            file: databases.target_password_file.clone(),
            command: databases.target_password_command.clone(),
        }
    }

    /// How to reach the source.
    pub fn source(&self) -> Result<Params> {
        let missing = "no source: give --source URI or WALFERRY_SOURCE";
        resolve(self.databases.source.as_ref(), &self.source_password(), missing)
    }

    /// How to reach the target.
    pub fn target(&self) -> Result<Params> {
        let missing = "no target: give --target URI or WALFERRY_TARGET";
        resolve(self.databases.target.as_ref(), &self.target_password(), missing)
    }

    /// The role that owns the source's tables; the source's own when no other was given.
    pub fn source_admin(&self) -> Result<Params> {
        match &self.databases.source_admin {
            Some(admin) => resolve(Some(admin), &self.source_password(), ""),
            None => self.source(),
        }
    }

    /// The role that makes the target's tables; the target's own when no other was given.
    pub fn target_admin(&self) -> Result<Params> {
        match &self.databases.target_admin {
            Some(admin) => resolve(Some(admin), &self.target_password(), ""),
            None => self.target(),
        }
    }

    /// What is recorded with the run (`walferry.runs.settings`): every key that was set, and both connections without their
    /// passwords. Read back by [`Layers::add_run`].
    #[must_use]
    pub fn to_record(&self) -> Json {
        let recorded = self.effective.iter().filter(|effective| match effective.key {
            "source" | "source_admin" | "target_admin" => !effective.text.is_empty(),
            key => effective.origin != Origin::Default && is_recorded(key),
        });
        Json::Object(
            recorded.map(|e| (e.key.to_owned(), Json::String(e.text.clone()))).collect::<Map<_, _>>(),
        )
    }
}

fn resolve(conninfo: Option<&Conninfo>, password: &PasswordSource, missing: &str) -> Result<Params> {
    let params = conninfo.ok_or_else(|| Error::usage(missing))?.params()?;
    Ok(match (password.read()?, &password.file) {
        (Some(now), Some(file)) => params.with_password_file(file.clone(), now),
        (Some(password), None) => params.with_password(password),
        (None, _) => params,
    })
}

/// One error for all problems.
fn refusal(problems: Vec<String>) -> Error {
    let hint = "walferry config reference lists every key; walferry config show, what is in force";
    match problems.as_slice() {
        [one] => Error::usage(one.clone()).hint(hint),
        many => Error::usage(format!("{} problems in the configuration", many.len()))
            .detail(many.join("\n"))
            .hint(hint),
    }
}
