//! Names of topics.

use pg::QualifiedName;

/// The topics of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
    /// BEGIN and END markers.
    pub transaction: String,
    /// Heartbeats.
    pub heartbeat: String,
    /// Logical messages.
    pub message: String,
}

impl Topics {
    #[must_use]
    pub fn new(prefix: &str) -> Topics {
        Topics {
            prefix: prefix.to_owned(),
            transaction: mangle(&format!("{prefix}.transaction")),
            heartbeat: mangle(&format!("__debezium-heartbeat.{prefix}")),
            message: mangle(&format!("{prefix}.message")),
        }
    }

    /// Is it one of this prefix: of a table, the transactions or the messages?
    #[must_use]
    pub fn is_own(&self, topic: &str) -> bool {
        topic.strip_prefix(&mangle(&self.prefix)).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The topic of a table's rows. Two tables can share one name (`a b` and `a_b`): preflight refuses that.
    #[must_use]
    pub fn table(&self, name: &QualifiedName) -> String {
        mangle(&format!("{}.{}.{}", self.prefix, name.schema, name.name))
    }
}

/// Characters that Kafka does not allow in a topic's name become `_`, one for each UTF-16 unit, as Debezium's do.
#[must_use]
pub fn mangle(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            out.push(c);
        } else {
            (0..c.len_utf16()).for_each(|_| out.push('_'));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kafka_allows() {
        let topics = Topics::new("srv");
        assert_eq!(
            topics.table(&QualifiedName::new("public", "Weird Schema Table")),
            "srv.public.Weird_Schema_Table"
        );
        assert_eq!(topics.table(&QualifiedName::new("é", "a.b-c_$😀")), "srv._.a.b-c____");
        assert_eq!((&topics.transaction[..], &topics.message[..]), ("srv.transaction", "srv.message"));
        assert_eq!(topics.heartbeat, "__debezium-heartbeat.srv");
    }
}
