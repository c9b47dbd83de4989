//! The file: JSON or `.properties`, as an ordered map.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{properties, providers};

/// A connector's properties in the order of the file. Values may be secrets: there is no `Debug`.
#[derive(Clone, Default)]
pub struct Properties {
    /// The file's name, for messages.
    pub path: String,
    entries: Vec<(String, String)>,
}

/// One entry of `transforms`.
pub struct Transform<'a> {
    pub alias: &'a str,
    /// Empty where the file names none.
    pub class: &'a str,
}

impl Properties {
    /// Reads a file; every problem of it at once.
    pub fn read(path: &Path) -> Result<Properties, Vec<String>> {
        let shown = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|error| vec![format!("could not read \"{shown}\": {error}")])?;
        let variable = |name: &str| std::env::var(name).ok();
        Properties::parse(&shown, &bytes, &variable)
    }

    /// `variable`: the environment's.
    pub fn parse(
        path: &str,
        bytes: &[u8],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Properties, Vec<String>> {
        // Java reads .properties as Latin-1, most editors write UTF-8.
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        };
        let found = if text.trim_start().starts_with('{') { json(&text) } else { properties::read(&text) };
        let found = found.map_err(|error| vec![format!("{path}: {error}")])?;
        let (mut entries, mut problems) = (Vec::<(String, String)>::new(), Vec::new());
        for (name, value) in found {
            let name = name.trim().to_owned();
            match providers::resolve(&value, variable) {
                // Of one that is there twice the last counts, as in Java.
                Ok(value) => match entries.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => *known = value,
                    None => entries.push((name, value)),
                },
                Err(error) => problems.push(format!("{path}: \"{name}\": {error}")),
            }
        }
        if problems.is_empty() { Ok(Properties { path: path.to_owned(), entries }) } else { Err(problems) }
    }

    /// Takes from another file what this one does not say. A converter that is named here has no properties from elsewhere.
    pub fn and_then(&mut self, other: Properties) {
        let join = if self.path.is_empty() { "" } else { ", " };
        self.path.push_str(&format!("{join}{}", other.path));
        let named =
            ["key.converter", "value.converter"].map(|name| self.get(name).map(|_| format!("{name}.")));
        for (name, value) in other.entries {
            if named.iter().flatten().any(|converter| name.starts_with(&**converter)) {
                continue;
            }
            if !self.entries.iter().any(|(known, _)| *known == name) {
                self.entries.push((name, value));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The chain of transforms, in its order.
    pub fn transforms(&self) -> impl Iterator<Item = Transform<'_>> {
        let aliases = self.get("transforms").unwrap_or_default().split(',').map(str::trim);
        aliases.filter(|alias| !alias.is_empty()).map(|alias| {
            let class = self.get(&format!("transforms.{alias}.type")).unwrap_or_default().trim();
            Transform { alias, class }
        })
    }
}

/// The object itself, or the one under `config` (what Kafka Connect's REST interface takes and gives).
fn json(text: &str) -> Result<Vec<(String, String)>, String> {
    // serde_json's own message could repeat text of the file.
    let member: Member = serde_json::from_str(text)
        .map_err(|error| format!("line {}, column {}: not JSON", error.line(), error.column()))?;
    let Member::Object(whole) = member else { return Err("not a JSON object".to_owned()) };
    let config = whole.iter().find_map(|(name, value)| match value {
        Member::Object(members) if name == "config" => Some(members.clone()),
        _ => None,
    });
    let Some(mut config) = config else { return texts(whole) };
    let name = whole.into_iter().find(|(name, _)| name == "name");
    if let Some(name) = name.filter(|_| !config.iter().any(|(known, _)| known == "name")) {
        config.insert(0, name);
    }
    texts(config)
}

fn texts(members: Vec<(String, Member)>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::with_capacity(members.len());
    for (name, value) in members {
        match value {
            Member::Null => {}
            Member::Text(text) => found.push((name, text)),
            Member::Array | Member::Object(_) => {
                return Err(format!("\"{name}\": expected a text, a number or a boolean"));
            }
        }
    }
    Ok(found)
}

/// JSON whose objects keep their order, as far as a configuration needs it.
#[derive(Clone)]
enum Member {
    Null,
    /// A string, a number or a boolean.
    Text(String),
    Array,
    Object(Vec<(String, Member)>),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Member, E> {
                Ok(Member::Text(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Member, E> {
                Ok(Member::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Array)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Member::Object(members))
            }
        }
        deserializer.deserialize_any(Members)
    }
}
