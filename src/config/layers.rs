//! Layers of configuration, one over the other, and where each effective value came from.
//!
//! ```text
//! option on the command line  >  --set  >  environment  >  connector's file  >  file  >  what the run has recorded  >  default
//! ```
//!
//! Every layer is a list of keys with text. Values are read once, from the highest layer that has the key, so that all problems of
//! all layers are known at once.

use std::fmt;
use std::path::Path;

use super::nearest::nearest;
use super::{Field, Value, environment};
use crate::connector::{self, Properties, Property, Translated};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    Default,
    /// The run's own settings in the target.
    Run,
    File(String),
    /// A Debezium connector's file, or the default that Debezium has where the file says nothing.
    Connector(String),
    Environment(String),
    Set,
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Run => f.write_str("run"),
            Origin::File(path) => write!(f, "file {path}"),
            Origin::Connector(path) => write!(f, "connector {path}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Set => f.write_str("--set"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One assignment in a layer.
#[derive(Clone)]
pub struct Assigned {
    pub key: String,
    pub items: Vec<String>,
    pub origin: Origin,
}

/// A value in force.
#[derive(Clone, Debug)]
pub struct Effective {
    pub key: &'static str,
    /// Without secrets.
    pub text: String,
    pub origin: Origin,
}

impl Effective {
    /// The option of Kafka's that set it.
    #[must_use]
    pub fn flag_of_kafka(&self) -> Option<&'static str> {
        match self.origin {
            Origin::Flag(flag) if self.key.starts_with("kafka.") => Some(flag),
            _ => None,
        }
    }
}

/// All layers, the strongest first, and what is wrong with them.
#[derive(Clone, Default)]
pub struct Layers {
    assigned: Vec<Assigned>,
    pub problems: Vec<String>,
    /// What was given and means nothing here, with the reason: said once.
    pub notes: Vec<String>,
    /// What was probably meant for us, and is passed over.
    pub warnings: Vec<String>,
}

impl Layers {
    /// Adds below what is there.
    pub fn assign(&mut self, key: impl Into<String>, items: Vec<String>, origin: Origin) {
        self.assigned.push(Assigned { key: key.into(), items, origin });
    }

    /// `--set KEY=VALUE`; the last one of a key wins.
    pub fn add_sets(&mut self, sets: &[String]) {
        for set in sets.iter().rev() {
            match set.split_once('=') {
                Some((key, _)) if key.trim() == "kafka.sasl_password" => self.problems.push(
                    "kafka.sasl_password: not in a command line, where everybody can read it: give \
                     WALFERRY_KAFKA_SASL_PASSWORD, kafka.sasl_password_file or kafka.sasl_password_command"
                        .to_owned(),
                ),
                Some((key, value)) => self.assign(key.trim(), vec![value.to_owned()], Origin::Set),
                None => self.problems.push("--set: expected KEY=VALUE".to_owned()),
            }
        }
    }

    /// `WALFERRY_…` variables. An unknown one that begins like a component's is refused; any other is passed over with a warning, since it
    /// may be somebody else's.
    pub fn add_environment(
        &mut self,
        fields: &[&'static Field],
        variables: impl Iterator<Item = (String, String)>,
    ) {
        for (name, value) in variables {
            // An empty variable is one that was not set: compose files and service units pass them on like that.
            if !name.starts_with("WALFERRY_") || value.is_empty() {
                continue;
            }
            if let Some(field) = fields.iter().find(|field| field.variable() == name) {
                self.assign(field.key, vec![value], Origin::Environment(name));
                continue;
            }
            if environment::is_known(&name, &value) {
                continue;
            }
            let component = |field: &&&Field| {
                field
                    .key
                    .split_once('.')
                    .is_some_and(|(part, _)| name.starts_with(&format!("WALFERRY_{}_", part.to_uppercase())))
            };
            if fields.iter().any(|field| component(&field)) {
                let known: Vec<String> = fields.iter().map(|field| field.variable()).collect();
                let near = nearest(&name, known.iter().map(String::as_str));
                self.problems.push(format!("environment: unknown variable \"{name}\"{near}"));
            } else {
                let meant = environment::meant(&name, fields);
                self.warnings.push(format!("environment: unknown variable \"{name}\" is passed over{meant}"));
            }
        }
    }

    /// A TOML file. Messages name the line, never its text: it may hold a password.
    pub fn add_file(&mut self, path: &Path) {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.add_text(&shown, &text),
            Err(error) => self.problems.push(format!("could not read \"{shown}\": {error}")),
        }
    }

    /// What such a file holds.
    pub fn add_text(&mut self, shown: &str, text: &str) {
        let table: toml::Table = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
                return self.problems.push(format!("{shown}:{line}: {}", error.message()));
            }
        };
        self.add_table(shown, "", &table);
    }

    fn add_table(&mut self, path: &str, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            let items = match value {
                toml::Value::Table(inner) => {
                    self.add_table(path, &format!("{key}."), inner);
                    continue;
                }
                toml::Value::Array(items) => items.iter().map(scalar).collect(),
                one => scalar(one).map(|text| vec![text]),
            };
            match items {
                Some(items) => self.assign(key, items, Origin::File(path.to_owned())),
                None => self.problems.push(format!("{path}: {key}: expected a text, a number, or a list")),
            }
        }
    }

    /// A connector's file, and its worker's behind it, against the tables of their properties. What they leave out has Debezium's default.
    pub fn add_connector(&mut self, paths: &[&Path], tables: &[&[Property]]) {
        let mut properties = Properties::default();
        for path in paths {
            match Properties::read(path) {
                Ok(read) => properties.and_then(read),
                Err(problems) => return self.problems.extend(problems),
            }
        }
        let applied = connector::apply(&properties, tables);
        let path = &properties.path;
        self.problems.extend(applied.problems);
        for (key, text) in applied.assigned {
            self.assign(key, vec![text], Origin::Connector(path.clone()));
        }
        let unused = applied.not_applicable.iter();
        self.notes.extend(unused.map(|(name, why)| format!("{path}: \"{name}\" is not applicable: {why}")));
    }

    /// Keys under Debezium's names become ours.
    pub fn translate(&mut self, fields: &[&'static Field], tables: &[&[Property]]) {
        let Layers { assigned, problems, notes, .. } = self;
        assigned.retain_mut(|assigned| {
            if fields.iter().any(|field| field.key == assigned.key) {
                return true;
            }
            let text = assigned.items.join(",");
            match connector::translate(&assigned.key, &text, tables) {
                None => return true,
                Some(Ok(Translated::Key(key, text))) => {
                    (assigned.key, assigned.items) = (key.to_owned(), vec![text]);
                    return true;
                }
                Some(Ok(Translated::Nothing(None))) => {}
                Some(Ok(Translated::Nothing(Some(why)))) => {
                    notes.push(format!("{}: \"{}\" is not applicable: {why}", assigned.origin, assigned.key));
                }
                Some(Err(what)) => {
                    problems.push(format!("{}: \"{}\": {what}", assigned.origin, assigned.key))
                }
            }
            false
        });
    }

    /// What the run has recorded in the target: an object of texts. Keys of another version are passed over.
    pub fn add_run(&mut self, fields: &[&'static Field], recorded: &serde_json::Value) {
        let Some(object) = recorded.as_object() else { return };
        for field in fields.iter().filter(|field| super::settings::is_recorded(field.key)) {
            if let Some(text) = object.get(field.key).and_then(|value| value.as_str()) {
                self.assign(field.key, vec![text.to_owned()], Origin::Run);
            }
        }
    }

    /// Notes every key that no component has.
    pub fn refuse_unknown(&mut self, fields: &[&'static Field]) {
        for assigned in &self.assigned {
            if fields.iter().any(|field| field.key == assigned.key) {
                continue;
            }
            let near = nearest(&assigned.key, fields.iter().map(|field| field.key));
            self.problems.push(format!("{}: unknown key \"{}\"{near}", assigned.origin, assigned.key));
        }
    }

    /// The text in force for a key of one value, whether or not the layers are sound.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.strongest(key).and_then(|found| found.items.first()).map(String::as_str)
    }

    fn strongest(&self, key: &str) -> Option<&Assigned> {
        self.assigned.iter().find(|assigned| assigned.key == key)
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// Reads values out of the layers and notes what is wrong with them.
pub struct Reader<'a> {
    layers: &'a Layers,
    pub problems: Vec<String>,
    pub effective: Vec<Effective>,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(layers: &'a Layers) -> Self {
        Reader { layers, problems: layers.problems.clone(), effective: Vec::new() }
    }

    /// The value in force; `None` when it is wrong.
    pub fn value<T: Value>(&mut self, key: &'static str, default: &str) -> Option<T> {
        let (read, origin) = match self.layers.strongest(key) {
            Some(found) => {
                let read = match found.origin {
                    // What was read once is believed; a connector's file has its own rules.
                    Origin::Default | Origin::Run | Origin::Connector(_) => T::read_list(&found.items),
                    _ => T::read_given(&found.items, !default.is_empty()),
                };
                (read, found.origin.clone())
            }
            None => (T::read(default), Origin::Default),
        };
        match read {
            Ok(value) => {
                self.effective.push(Effective { key, text: value.show(), origin });
                Some(value)
            }
            Err(expected) => {
                self.problems.push(match origin {
                    Origin::Flag(flag) => format!("{flag}: {expected}"),
                    Origin::Environment(name) => format!("environment {name}: {expected}"),
                    origin => format!("{origin}: {key}: {expected}"),
                });
                None
            }
        }
    }
}
