//! Three nodes, each broker and controller, every topic in three copies: what a change of leaders needs.
//!
//! ```ignore
//! let mut cluster = Cluster::start().await;
//! let leader = cluster.leader("p.public.t", 0);
//! cluster.nodes[leader].kill9();
//! cluster.nodes[leader].restart().await;
//! ```

use std::time::Instant;

use super::{Kafka, PATIENCE};
use crate::support::postgres::free_port;

pub struct Cluster {
    pub nodes: Vec<Kafka>,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let controllers: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let voters: Vec<String> =
            controllers.iter().enumerate().map(|(n, port)| format!("{}@127.0.0.1:{port}", n + 1)).collect();
        let mut nodes = Vec::new();
        for (n, controller) in controllers.iter().enumerate() {
            let own = [
                format!("node.id={}", n + 1),
                format!("controller.quorum.voters={}", voters.join(",")),
                format!("listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{controller}"),
                "offsets.topic.replication.factor=3".to_owned(),
                // Whoever is left goes on soon.
                "controller.quorum.election.timeout.ms=500".to_owned(),
                "controller.quorum.fetch.timeout.ms=1000".to_owned(),
                "replica.lag.time.max.ms=5000".to_owned(),
            ];
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            nodes.push(Kafka::prepare(&own, n + 1, |_| false));
        }
        let [one, two, three] = nodes.as_mut_slice() else { unreachable!("there are three") };
        tokio::join!(one.restart(), two.restart(), three.restart());
        let cluster = Cluster { nodes };
        let deadline = Instant::now() + PATIENCE;
        while cluster.metadata(None, |metadata| metadata.brokers().len()) < 3 {
            assert!(Instant::now() < deadline, "the three nodes never found each other");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        cluster
    }

    pub fn brokers(&self) -> String {
        self.nodes.iter().map(Kafka::brokers).collect::<Vec<_>>().join(",")
    }

    /// Number (from 0) of the node that leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.metadata(Some(topic), |metadata| {
                metadata.topics().first()?.partitions().get(partition).map(|partition| partition.leader())
            });
            match leader.and_then(|node| usize::try_from(node - 1).ok()) {
                Some(node) => return node,
                None => assert!(Instant::now() < deadline, "topic {topic} has no leader"),
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Waits until so many nodes have all of a partition.
    pub async fn in_sync(&self, topic: &str, partition: usize, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.metadata(Some(topic), |metadata| {
                metadata.topics().first()?.partitions().get(partition).map(|partition| partition.isr().len())
            });
            if now == Some(count) {
                return;
            }
            assert!(Instant::now() < deadline, "topic {topic}: {now:?} nodes are in sync");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn metadata<T>(&self, topic: Option<&str>, read: impl Fn(&rdkafka::metadata::Metadata) -> T) -> T {
        use rdkafka::consumer::{BaseConsumer, Consumer};
        let client: BaseConsumer =
            rdkafka::ClientConfig::new().set("bootstrap.servers", self.brokers()).create().expect("a client");
        let metadata = tokio::task::block_in_place(|| client.fetch_metadata(topic, PATIENCE));
        read(&metadata.expect("one of the nodes answers"))
    }
}
