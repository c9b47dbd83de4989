//! What a topic takes, by its own settings. Somebody else may have made it.

use pipeline::outbox::Event;

/// What Kafka adds to a message, with room.
const OVERHEAD: usize = 128;

/// <https://kafka.apache.org/documentation/#topicconfigs>. What is not known refuses nothing here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Takes {
    /// `max.message.bytes`.
    pub limit: Option<usize>,
    /// How far behind the broker's clock a record's time may be, and how far ahead, in milliseconds. None: as far as it likes, or the broker gives
    /// the record its own time.
    before: Option<i64>,
    after: Option<i64>,
    /// Only what has a key.
    keyed: bool,
}

impl Takes {
    /// Reads the settings of a topic.
    pub(super) fn of<'a>(setting: impl Fn(&str) -> Option<&'a str>) -> Takes {
        let number = |name: &str| setting(name)?.parse::<i64>().ok();
        let own = setting("message.timestamp.type") == Some("LogAppendTime");
        // Brokers before 3.6 know the difference alone, and those before 4.0 hold to both.
        let within = |name: &str| {
            let both = number(name).into_iter().chain(number("message.timestamp.difference.max.ms"));
            both.min().filter(|_| !own)
        };
        Takes {
            limit: setting("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
            before: within("message.timestamp.before.max.ms"),
            after: within("message.timestamp.after.max.ms"),
            keyed: setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        }
    }

    /// Why it would not take this event. `now`: milliseconds since 1970.
    pub(super) fn refuses(&self, event: &Event, message_bytes: usize, now: i64) -> Option<String> {
        if self.keyed && event.key.is_none() {
            return Some("no key, and the topic is compacted (cleanup.policy)".to_owned());
        }
        let ahead = event.timestamp.saturating_sub(now);
        if self.after.is_some_and(|most| ahead > most) {
            return Some(format!(
                "a time {ahead} ms ahead, the topic takes {} (message.timestamp.after.max.ms)",
                self.after.unwrap_or_default()
            ));
        }
        let behind = now.saturating_sub(event.timestamp);
        if self.before.is_some_and(|most| behind > most) {
            return Some(format!(
                "a time {behind} ms ago, the topic takes {} (message.timestamp.before.max.ms)",
                self.before.unwrap_or_default()
            ));
        }
        let limit = self.limit.unwrap_or(usize::MAX).min(message_bytes);
        let header =
            |(name, value): &(String, Option<Vec<u8>>)| name.len() + value.as_ref().map_or(0, Vec::len) + 8;
        let size = OVERHEAD
            + event.headers.iter().map(header).sum::<usize>()
            + event.key.as_ref().map_or(0, Vec::len)
            + event.value.as_ref().map_or(0, Vec::len);
        (size > limit).then(|| format!("a message of {size} bytes, the limit is {limit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &'static str)]) -> Takes {
        Takes::of(|name| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn the_narrower_of_the_bounds_for_a_time_counts_and_none_where_the_broker_gives_its_own() {
        let bounds = [
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("message.timestamp.after.max.ms", "3600000"),
            ("message.timestamp.difference.max.ms", "60000"),
        ];
        assert_eq!((of(&bounds[..2]).before, of(&bounds[..2]).after), (Some(i64::MAX), Some(3_600_000)));
        assert_eq!((of(&bounds).before, of(&bounds).after), (Some(60_000), Some(60_000)));
        let own = [&bounds[..], &[("message.timestamp.type", "LogAppendTime")]].concat();
        assert_eq!((of(&own).before, of(&own).after), (None, None));
        assert!(of(&[("cleanup.policy", "compact,delete")]).keyed);
        assert_eq!(of(&[]), Takes::default());
    }
}
