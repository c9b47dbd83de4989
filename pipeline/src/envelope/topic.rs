//! Names of topics.

use std::sync::Arc;

use pg::QualifiedName;

use crate::outbox::Route;

/// Several tables' rows in one topic, as Debezium's ByLogicalTableRouter puts them there.
#[derive(Clone, Debug)]
pub struct TableRoute {
    route: Route,
    /// A member that every key of a routed row gets: the name of the topic that the table would have. Rows of two tables then have two keys.
    key_field: Option<String>,
}

impl TableRoute {
    /// The expression has to match the whole name `<prefix>.<schema>.<table>`; a table whose name it does not match keeps its topic.
    ///
    /// # Errors
    /// The expression does not compile, the replacement names a group that it has not got, or Kafka takes no topic of such a name.
    pub fn new(regex: &str, replacement: &str, key_field: Option<String>) -> Result<TableRoute, String> {
        Ok(TableRoute { route: Route::new(regex, replacement)?, key_field })
    }
}

/// The topics of one prefix.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: String,
    /// BEGIN and END markers.
    pub transaction: String,
    /// Heartbeats.
    pub heartbeat: String,
    /// Logical messages.
    pub message: String,
    route: Option<Arc<TableRoute>>,
}

impl Topics {
    #[must_use]
    pub fn new(prefix: &str) -> Topics {
        Topics {
            prefix: prefix.to_owned(),
            transaction: mangle(&format!("{prefix}.transaction")),
            heartbeat: mangle(&format!("__debezium-heartbeat.{prefix}")),
            message: mangle(&format!("{prefix}.message")),
            route: None,
        }
    }

    /// With tables' topics that are other ones.
    #[must_use]
    pub fn routed(self, route: Option<Arc<TableRoute>>) -> Topics {
        Topics { route, ..self }
    }

    /// May this table share its topic with others?
    #[must_use]
    pub fn is_routed(&self, name: &QualifiedName) -> bool {
        self.route.as_ref().is_some_and(|by| by.route.matches(&self.own(name)))
    }

    /// Is it one of this prefix: of a table, the transactions or the messages?
    #[must_use]
    pub fn is_own(&self, topic: &str) -> bool {
        topic.strip_prefix(&mangle(&self.prefix)).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The topic of a table's rows. Two tables can share one name (`a b` and `a_b`): preflight refuses that.
    #[must_use]
    pub fn table(&self, name: &QualifiedName) -> String {
        let own = self.own(name);
        // Parts of a name that Kafka takes, and a text that it takes, can only become too long together.
        self.route.as_ref().and_then(|by| by.route.make(&own).ok()).unwrap_or(own)
    }

    /// The topic that a table has when nothing is routed.
    fn own(&self, name: &QualifiedName) -> String {
        mangle(&format!("{}.{}.{}", self.prefix, name.schema, name.name))
    }

    /// The member that keys of a table's rows have besides its columns, and its value.
    #[must_use]
    pub fn key_field(&self, name: &QualifiedName) -> Option<(&str, String)> {
        let route = self.route.as_ref()?;
        let (field, own) = (route.key_field.as_deref()?, self.own(name));
        route.route.matches(&own).then_some((field, own))
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
    fn tables_whose_names_match_share_a_topic_and_their_keys_say_which_it_is() {
        let route = TableRoute::new(r"(.*)\.orders_\d+", "$1.orders", Some("of".to_owned())).unwrap();
        let topics = Topics::new("srv").routed(Some(Arc::new(route)));
        let (shard, other) = (QualifiedName::new("s", "orders_7"), QualifiedName::new("s", "customers"));
        assert!(topics.is_routed(&shard) && !topics.is_routed(&other));
        let same = TableRoute::new("(.*)", "$1", Some("of".to_owned())).unwrap();
        let same = Topics::new("srv").routed(Some(Arc::new(same)));
        assert_eq!(
            same.key_field(&other),
            Some(("of", "srv.s.customers".to_owned())),
            "what matches is routed"
        );
        assert_eq!(topics.table(&shard), "srv.s.orders");
        assert_eq!(topics.key_field(&shard), Some(("of", "srv.s.orders_7".to_owned())));
        assert_eq!((topics.table(&other).as_str(), topics.key_field(&other)), ("srv.s.customers", None));
    }

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
