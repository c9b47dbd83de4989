//! What becomes of one property.

use super::client;

/// One row of a table.
#[derive(Debug)]
pub struct Property {
    /// As Debezium or Kafka Connect names it; each `*` stands for one or more characters.
    pub name: &'static str,
    pub verdict: Verdict,
    /// For people: what it becomes, why it means nothing here, or what to do instead. One sentence without a full stop.
    pub note: &'static str,
}

/// The connector's text as keys of ours with their text, or what was expected.
pub type ReadAll = fn(&str) -> Result<Vec<(&'static str, String)>, String>;

/// The three ways, and how.
#[derive(Debug)]
pub enum Verdict {
    /// Becomes a key of ours.
    Sets {
        key: &'static str,
        /// The connector's text as ours, or what was expected. Never repeats the text: it may be a secret.
        read: fn(&str) -> Result<String, String>,
        /// What counts where the file has not got it; none: our own default.
        default: Option<&'static str>,
    },
    /// Becomes several keys of ours; the note names them.
    SetsAll(ReadAll),
    /// Becomes a keyword of the connection string `source`.
    Connects(&'static str),
    /// With one of these values it says what walferry does anyway; every other is refused.
    Only(&'static [&'static str]),
    /// Read by whoever owns the table; nothing is left to do here.
    Taken,
    NotApplicable,
    Refused,
}

impl Verdict {
    /// As the page calls it.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Sets { .. }
            | Verdict::SetsAll(_)
            | Verdict::Connects(_)
            | Verdict::Only(_)
            | Verdict::Taken => "honoured",
            Verdict::NotApplicable => "not applicable",
            Verdict::Refused => "refused",
        }
    }
}

/// The entry for a name: the client's own where it has the producer's prefix, else the first that matches, of the first table that has one.
pub fn find<'t>(tables: &[&'t [Property]], name: &str) -> Option<&'t Property> {
    let of = |properties: &'t [Property], name: &str| {
        properties.iter().find(|property| matches(property.name, name))
    };
    let client = client::bare(name).and_then(|name| of(client::CLIENT, name));
    let own = || tables.iter().find_map(|table| of(table, name));
    client.or_else(own).or_else(|| of(client::CLIENT, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            name.char_indices().skip(1).any(|(at, _)| matches(rest, &name[at..]))
                || (rest.is_empty() && !name.is_empty())
        }),
    }
}

/// The text as it is.
pub fn as_it_is(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// `true` and `false`.
pub fn flag(text: &str) -> Result<String, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok("on".to_owned()),
        "false" => Ok("off".to_owned()),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Words whose case does not matter.
pub fn word(text: &str) -> Result<String, String> {
    Ok(text.trim().to_ascii_lowercase())
}

/// Milliseconds as a duration.
pub fn milliseconds(text: &str) -> Result<String, String> {
    let ms: u64 = text.trim().parse().map_err(|_| "expected milliseconds, a whole number".to_owned())?;
    Ok(format!("{ms}ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_or_more_characters() {
        for (pattern, name) in [
            ("a.b", "a.b"),
            ("a.*", "a.b.c"),
            ("column.mask.with.*.chars", "column.mask.with.12.chars"),
            ("transforms.*.route.topic.regex", "transforms.my.outbox.route.topic.regex"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a.b", "a.bc"),
            ("a.*", "a."),
            ("a.*", "b.c"),
            ("column.mask.with.*.chars", "column.mask.with..chars"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
