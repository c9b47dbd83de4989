//! From the route column's value to a topic: a regular expression that has to match all of it, and a replacement, as Java writes them.
//!
//! A value that the expression does not match is the topic itself, as Kafka Connect's RegexRouter has it.

use std::collections::HashMap;

use fancy_regex::{Captures, Regex};

/// Longest name that Kafka takes.
const LONGEST: usize = 249;
/// Values whose topic is remembered.
const REMEMBERED: usize = 4096;

/// Does Kafka allow a topic of this name?
#[must_use]
pub fn is_topic(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// May a topic have this, which is the same for every event? `whole`: nothing comes from the event.
pub(super) fn may_be_topic(literal: &str, whole: bool) -> bool {
    is_topic(literal) || (!whole && (literal.is_empty() || matches!(literal, "." | "..")))
}

pub(super) fn not_a_topic(option: &str) -> String {
    format!(
        "{option}: expected the name of a topic, of the characters A-Z a-z 0-9 . _ -, at most {LONGEST} of them"
    )
}

/// A part of the replacement.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Group(usize),
}

/// `route.topic.regex` and `route.topic.replacement`.
#[derive(Clone, Debug)]
pub struct Route {
    regex: Regex,
    replacement: Vec<Part>,
    known: HashMap<String, Result<String, String>>,
}

impl Route {
    pub const REGEX: &'static str = "(?<routedByValue>.*)";
    pub const REPLACEMENT: &'static str = "outbox.event.${routedByValue}";

    /// # Errors
    /// The expression does not compile, or the replacement names a group that it does not have.
    pub fn new(regex: &str, replacement: &str) -> Result<Route, String> {
        let compiled = Regex::new(&format!(r"\A(?:{regex})\z"))
            .map_err(|error| format!("route.topic.regex: expected a regular expression: {error}"))?;
        let names: Vec<Option<&str>> = compiled.capture_names().collect();
        let replacement = parse(replacement, &names)?;
        let literal = replacement.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Group(_) => None,
        });
        let whole = !replacement.iter().any(|part| matches!(part, Part::Group(_)));
        if !may_be_topic(&literal.collect::<String>(), whole) {
            return Err(not_a_topic("route.topic.replacement"));
        }
        Ok(Route { regex: compiled, replacement, known: HashMap::new() })
    }

    /// The topic of a value.
    ///
    /// # Errors
    /// Why there is none, without the value.
    pub fn topic(&mut self, value: &str) -> Result<String, String> {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        let made = self.make(value);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(value.to_owned(), made.clone());
        made
    }

    /// Does the expression match all of it?
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value).unwrap_or(false)
    }

    pub(crate) fn make(&self, value: &str) -> Result<String, String> {
        let captures = self
            .regex
            .captures(value)
            .map_err(|_| "route.topic.regex takes too long on the route value".to_owned())?;
        let topic = match captures {
            Some(captures) => self.replaced(&captures),
            None => value.to_owned(),
        };
        if is_topic(&topic) {
            return Ok(topic);
        }
        Err(if topic.is_empty() || topic.len() > LONGEST {
            format!("the topic's name would have {} characters, Kafka takes 1 to {LONGEST}", topic.len())
        } else {
            "the topic's name would have characters that Kafka does not allow (A-Z a-z 0-9 . _ - are)"
                .to_owned()
        })
    }

    fn replaced(&self, captures: &Captures<'_>) -> String {
        let mut topic = String::new();
        for part in &self.replacement {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Group(group) => topic.push_str(captures.get(*group).map_or("", |found| found.as_str())),
            }
        }
        topic
    }
}

/// Java's `Matcher.appendReplacement`: `${name}`, `$1` (as many digits as make a group that there is), a backslash takes the next
/// character as it is.
fn parse(text: &str, names: &[Option<&str>]) -> Result<Vec<Part>, String> {
    let wrong = |what: String| Err(format!("route.topic.replacement: {what}"));
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' {
            match chars.next() {
                Some(next) => plain.push(next),
                None => return wrong("expected a character behind the backslash".to_owned()),
            }
            continue;
        }
        if c != '$' {
            plain.push(c);
            continue;
        }
        let group = match chars.next() {
            Some('{') => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                match names.iter().position(|group| *group == Some(name.as_str())) {
                    Some(group) => group,
                    None => {
                        return wrong(format!(
                            "expected a group that route.topic.regex names; it has no (?<{name}>…)"
                        ));
                    }
                }
            }
            Some(digit @ '0'..='9') => {
                let mut group = digit as usize - '0' as usize;
                while let Some(next) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + next as usize;
                    if longer >= names.len() {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                if group >= names.len() {
                    return wrong(format!("route.topic.regex has no group {group}"));
                }
                group
            }
            _ => return wrong("expected ${name} or a number behind $".to_owned()),
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Group(group));
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(regex: &str, replacement: &str, value: &str) -> String {
        Route::new(regex, replacement).unwrap().topic(value).unwrap()
    }

    #[test]
    fn java_s_forms_of_replacement() {
        assert_eq!(topic(Route::REGEX, Route::REPLACEMENT, "Order"), "outbox.event.Order");
        assert_eq!(topic(Route::REGEX, Route::REPLACEMENT, ""), "outbox.event.");
        assert_eq!(topic(Route::REGEX, "${routedByValue}.events", "Task"), "Task.events");
        assert_eq!(topic("(.*)-(.*)", "$2.$1", "a-b"), "b.a");
        assert_eq!(topic("(.)(.*)", "x$12", "ab"), "xa2");
        assert_eq!(topic("(?i)(?<kind>order|item)s?", "shop.${kind}", "ORDERS"), "shop.ORDER");
        assert_eq!(topic("(?<a>x)(?=.)(?<b>.*)", "${b}", "xyz"), "yz");
    }

    #[test]
    fn the_whole_value_has_to_match_or_is_the_topic() {
        assert_eq!(topic("Ord", "t", "Order"), "Order");
        assert_eq!(topic("Ord.*", "t", "Order"), "t");
        assert_eq!(topic("a|ab", "t", "ab"), "t");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (regex, replacement, expected) in [
            ("(", "x", "route.topic.regex: expected a regular expression"),
            ("(?<other>.*)", "${routedByValue}", "it has no (?<routedByValue>…)"),
            (".*", "$1", "no group 1"),
            (".*", "$", "expected ${name}"),
            (".*", "a\\", "behind the backslash"),
            (".*", "bad topic!", "route.topic.replacement: expected the name of a topic"),
            ("(.*)", "sh/$1", "of the characters A-Z a-z 0-9 . _ -"),
            (".*", "", "expected the name of a topic"),
            (".*", "..", "expected the name of a topic"),
            ("(.*)", &format!("$1{}", "x".repeat(250)), "at most 249"),
        ] {
            let error = Route::new(regex, replacement).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_comes_from_the_event_is_only_known_then() {
        assert_eq!(topic("(.*)\\.(.*)", "$1.$2", "a.b"), "a.b");
        assert_eq!(topic("(.*)\\.\\.(.*)", "$1..$2", "a..b"), "a..b");
    }

    #[test]
    fn names_that_kafka_does_not_take_are_no_topics() {
        let mut route = Route::new(Route::REGEX, "${routedByValue}").unwrap();
        for value in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            let error = route.topic(value).unwrap_err();
            assert!(value.len() < 3 || !error.contains(value), "{error}");
        }
        assert_eq!(route.topic(&"x".repeat(249)).unwrap().len(), 249);
    }
}
