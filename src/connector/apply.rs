//! A file against the tables.

use super::client;
use super::file::{Properties, Transform};
use super::property::{Property, Verdict, find};

/// What a file says in our own terms.
#[derive(Default)]
pub struct Applied {
    /// Our keys with their text, Debezium's defaults included.
    pub assigned: Vec<(&'static str, String)>,
    /// Properties that mean nothing here, and why.
    pub not_applicable: Vec<(String, &'static str)>,
    /// Everything that is wrong, naming file and property, never a value.
    pub problems: Vec<String>,
}

/// Goes through a file, property by property.
pub fn apply(properties: &Properties, tables: &[&[Property]]) -> Applied {
    let mut applied = Applied::default();
    applied.assigned.push(("kafka.values", "debezium".to_owned()));
    let mut connection = String::new();
    let mut set_by: Vec<(&'static str, &str)> = Vec::new();
    let mut strongest_first: Vec<(&str, &str)> = properties.iter().collect();
    strongest_first.sort_by_key(|(name, _)| client::rank(name));
    for (name, value) in strongest_first {
        let mut problem =
            |what: &str| applied.problems.push(format!("{}: \"{name}\": {what}", properties.path));
        let Some(property) = find(tables, name) else {
            problem(&unknown(name, tables));
            continue;
        };
        match &property.verdict {
            Verdict::Sets { key, read, .. } => match read(value) {
                Ok(text) => {
                    let earlier = applied.assigned.iter().find(|(known, _)| known == key);
                    let other = set_by.iter().find(|(known, _)| known == key).map_or("", |(_, name)| name);
                    let weaker = client::rank(name) > client::rank(other);
                    if earlier.is_some_and(|(_, earlier)| *earlier != text) && !weaker {
                        problem(&format!(
                            "says something else than \"{other}\", and here they are one setting"
                        ));
                    } else if earlier.is_none() {
                        applied.assigned.push((key, text));
                        set_by.push((key, name));
                    }
                }
                Err(expected) => problem(&expected),
            },
            Verdict::SetsAll(read) => match read(value) {
                Ok(all) => {
                    for (key, text) in all {
                        if !applied.assigned.iter().any(|(known, _)| *known == key) {
                            applied.assigned.push((key, text));
                            set_by.push((key, name));
                        }
                    }
                }
                Err(expected) => problem(&expected),
            },
            Verdict::Connects(keyword) => {
                connection
                    .push_str(&format!("{keyword}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'")));
            }
            Verdict::Only(words) if !words.contains(&value.trim()) => problem(&only(words, property)),
            Verdict::Only(_) | Verdict::Taken => {}
            Verdict::NotApplicable => applied.not_applicable.push((name.to_owned(), property.note)),
            Verdict::Refused => problem(&format!("refused: {}", property.note)),
        }
    }
    for (name, what) in lacking(properties) {
        applied.problems.push(format!("{}: \"{name}\": {what}", properties.path));
    }
    if !connection.is_empty() {
        applied.assigned.push(("source", connection.trim_end().to_owned()));
    }
    for property in tables.iter().flat_map(|table| table.iter()) {
        // What another table says something else about is its business.
        if let Verdict::Sets { key, read, default: Some(default) } = property.verdict
            && find(tables, property.name).is_some_and(|found| std::ptr::eq(found, property))
            && !applied.assigned.iter().any(|(known, _)| *known == key)
        {
            applied.assigned.extend(read(default).ok().map(|text| (key, text)));
        }
    }
    applied
}

/// Properties that a transform of the chain needs and the file does not have. With them left out the chain would do nothing, or not start.
fn lacking(properties: &Properties) -> Vec<(String, &'static str)> {
    let of_transform = |transform: Transform<'_>| {
        let router = transform.class == "io.debezium.transforms.ByLogicalTableRouter";
        let needed: &[(&str, &str)] = if router {
            &[("topic.regex", "the router needs it"), ("topic.replacement", "the router needs it")]
        } else {
            &[("type", "the transform has no class")]
        };
        let name = move |(needed, what): &(&str, &'static str)| {
            (format!("transforms.{}.{needed}", transform.alias), *what)
        };
        needed.iter().map(name).collect::<Vec<_>>()
    };
    let needed = properties.transforms().flat_map(of_transform);
    needed.filter(|(name, _)| properties.get(name).is_none_or(|value| value.trim().is_empty())).collect()
}

/// A single property under Debezium's name, from another layer (`--set slot.name=…`).
pub enum Translated {
    /// Our key and its text.
    Key(&'static str, String),
    /// Nothing is to be set; why, if that is worth a line.
    Nothing(Option<&'static str>),
}

/// `None`: no table has the name.
pub fn translate(name: &str, value: &str, tables: &[&[Property]]) -> Option<Result<Translated, String>> {
    let property = find(tables, name)?;
    Some(match &property.verdict {
        Verdict::Sets { key, read, .. } => read(value).map(|text| Translated::Key(key, text)),
        Verdict::SetsAll(_) => Err(format!("give {} instead", property.note)),
        Verdict::Connects(_) => Err("part of a connection: give --source instead".to_owned()),
        Verdict::Only(words) if !words.contains(&value.trim()) => Err(only(words, property)),
        Verdict::Only(_) | Verdict::Taken => Ok(Translated::Nothing(None)),
        Verdict::NotApplicable => Ok(Translated::Nothing(Some(property.note))),
        Verdict::Refused => Err(format!("refused: {}", property.note)),
    })
}

fn only(words: &[&str], property: &Property) -> String {
    format!("expected {} ({})", words.join(" or "), property.note)
}

fn unknown(name: &str, tables: &[&[Property]]) -> String {
    let known = tables.iter().flat_map(|table| table.iter()).map(|property| property.name);
    let near = crate::config::nearest(name, known.filter(|name| !name.contains('*')));
    format!("unknown property{near}: expected one that docs/debezium.md lists")
}
