//! Which topic a table has, and why it can't have it.

use std::collections::BTreeMap;

use pg::{Error, QualifiedName};
use pipeline::envelope::Topics;

/// Longest name that Kafka takes.
const LONGEST: usize = 249;

/// The topic of each table; and every reason why it can't be: two tables share one that are not routed there, a name is longer than Kafka takes, or it is walferry's own.
pub fn names(topics: &Topics, tables: &[QualifiedName]) -> (BTreeMap<String, QualifiedName>, Vec<Error>) {
    let mut names: BTreeMap<String, QualifiedName> = BTreeMap::new();
    let mut refused = Vec::new();
    for table in tables {
        let topic = topics.table(table);
        if topic.len() > LONGEST {
            refused.push(
                Error::refuse(
                    "KAFKA_TOPIC_NAME",
                    format!(
                        "the topic of table {table} would have {} characters, Kafka takes {LONGEST}",
                        topic.len()
                    ),
                )
                .hint("give a shorter --prefix"),
            );
            continue;
        }
        if [&topics.transaction, &topics.heartbeat, &topics.message].contains(&&topic) {
            refused.push(
                Error::refuse(
                    "KAFKA_TOPIC_NAME",
                    format!("the topic of table {table} would be \"{topic}\", which is walferry's own"),
                )
                .hint("give another --prefix"),
            );
            continue;
        }
        if let Some(other) = names
            .insert(topic.clone(), table.clone())
            .filter(|other| !topics.is_routed(other) && !topics.is_routed(table))
        {
            refused.push(
                Error::refuse(
                    "KAFKA_TOPIC_NAME",
                    format!("tables {other} and {table} would share topic \"{topic}\""),
                )
                .detail("characters outside of A-Z a-z 0-9 . _ - become _ in a topic's name")
                .hint("leave one of them out with --exclude-table"),
            );
        }
    }
    (names, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(tables: &[(&str, &str)]) -> String {
        let tables: Vec<_> = tables.iter().map(|(schema, name)| QualifiedName::new(*schema, *name)).collect();
        let (_, refused) = names(&Topics::new("p"), &tables);
        assert_eq!(refused.len(), 1);
        refused[0].primary().to_owned()
    }

    #[test]
    fn two_tables_never_share_a_topic() {
        assert!(refused(&[("s", "a b"), ("s", "a_b")]).contains("share topic \"p.s.a_b\""));
        assert!(refused(&[("a.b", "c"), ("a", "b.c")]).contains("share topic \"p.a.b.c\""));
    }

    #[test]
    fn a_name_that_kafka_does_not_take_is_refused() {
        let long = "x".repeat(63);
        let prefix = Topics::new(&"p".repeat(150));
        let tables = [QualifiedName::new(&long, &long), QualifiedName::new(&long, "y".repeat(63))];
        let (names, refused) = names(&prefix, &tables);
        assert_eq!((names.len(), refused.len()), (0, 2), "every one is named");
    }
}
