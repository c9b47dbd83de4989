//! Partitions, assigned from an offset on.

use std::sync::Arc;

use pg::{Error, Result};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Notify;

use crate::failure::classify;
use crate::options::Quiet;
use crate::partition::Partition;
use crate::position::Position;

/// Begins to read these partitions, each through a queue of its own. `more`: besides what is assigned.
pub(crate) fn assign(
    consumer: &Arc<BaseConsumer<Quiet>>,
    arrived: &Arc<Notify>,
    position: &Position,
    wanted: &[(String, i32)],
    more: bool,
) -> Result<Vec<Partition>> {
    let failed = |error| classify(&error, "assigning partitions");
    let mut list = TopicPartitionList::new();
    let mut partitions = Vec::with_capacity(wanted.len());
    for (topic, id) in wanted {
        let offset = position.offset(topic, *id);
        list.add_partition_offset(topic, *id, Offset::Offset(offset)).map_err(failed)?;
        // Before it is assigned: what is fetched while it has no queue of its own goes to the consumer's, where nobody looks for it.
        let Some(mut queue) = consumer.split_partition_queue(topic, *id) else {
            return Err(Error::failed("KAFKA", format!("topic \"{topic}\" has no partition {id}")));
        };
        let wake = arrived.clone();
        queue.set_nonempty_callback(move || wake.notify_one());
        partitions.push(Partition::new(topic.as_str().into(), *id, consumer.clone(), queue, offset));
    }
    if more {
        consumer.incremental_assign(&list).map_err(failed)?;
    } else {
        consumer.assign(&list).map_err(failed)?;
    }
    fail::fail_point!("kafka-assigned");
    Ok(partitions)
}

/// Begins anew with a partition whose position was not there: librdkafka has given it up.
pub(super) fn again(
    consumer: &Arc<BaseConsumer<Quiet>>,
    arrived: &Arc<Notify>,
    partition: &mut Partition,
    offset: i64,
) -> Result<()> {
    let failed = |error| classify(&error, "assigning partitions");
    let mut list = TopicPartitionList::new();
    list.add_partition(&partition.topic, partition.id);
    consumer.incremental_unassign(&list).map_err(failed)?;
    let mut position = Position::default();
    position.set(&partition.topic, partition.id, offset);
    let wanted = [(partition.topic.to_string(), partition.id)];
    if let Some(made) = assign(consumer, arrived, &position, &wanted, true)?.pop() {
        *partition = made;
    }
    Ok(())
}
