//! Whole transactions, by the transaction topic.

use pg::{Error, Lsn, Result};
use pipeline::Event;
use pipeline::envelope::{Decoded, End, mangle};

use super::lane::Due;
use super::{ENDED, Foreign, incomplete, polled};

impl Foreign {
    /// Hands on the next transaction whose END is there; false: there is none.
    pub(super) async fn transaction(&mut self) -> Result<bool> {
        let Some(end) = self.next_end()? else { return Ok(false) };
        let lanes = self.lanes_of(&end)?;
        let committed_at = end.marker.committed_at;
        let end_lsn = Lsn::new(self.last.as_u64() + 1).max(end.marker.commit_lsn);
        let xid = end.marker.xid.unwrap_or(0);
        self.push(Event::Begin { commit_lsn: end_lsn, committed_at, xid }).await?;
        for index in 1..=end.events {
            let at = self.find(&lanes, &end, xid, index).await?;
            let Some(event) = self.lanes[at].take() else { continue };
            if let Some(change) = self.lanes[at].change(*event)? {
                self.push(Event::Change(change)).await?;
            }
        }
        let mut steps: Vec<_> = lanes.iter().map(|&at| self.lanes[at].step()).collect();
        steps.extend(self.markers.as_ref().map(|markers| (markers.topic.clone(), markers.id, markers.next)));
        self.ended = end.marker.commit_lsn;
        self.over.add(xid);
        steps.push((ENDED.into(), 0, i64::try_from(self.ended.as_u64()).unwrap_or(i64::MAX)));
        self.commit(end_lsn, committed_at, steps).await?;
        Ok(true)
    }

    fn next_end(&mut self) -> Result<Option<End>> {
        let Foreign { markers: Some(markers), decoder, ended, over, .. } = self else { return Ok(None) };
        while let Some((_, decoded)) = polled(markers, decoder)? {
            match decoded {
                // One that was applied is sent again by a connector that was killed.
                Decoded::End(end) if end.marker.commit_lsn > *ended && end.events > 0 => {
                    return Ok(Some(end));
                }
                Decoded::End(end) => over.add(end.marker.xid.unwrap_or(0)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Where its events can be: the topics of its tables, and the one with logical messages.
    fn lanes_of(&self, end: &End) -> Result<Vec<usize>> {
        let prefix = self.topics.transaction.trim_end_matches("transaction");
        let topic = |collection: &str| mangle(&format!("{prefix}{collection}"));
        let mut topics: Vec<String> = Vec::new();
        for (collection, _) in &end.collections {
            // Debezium counts messages under the name of a Java object.
            if !collection.starts_with("io.debezium.") && collection != "message" {
                let topic = topic(collection);
                if !self.known.contains_key(&topic) {
                    return Err(Error::connection(format!("topic \"{topic}\" is not there yet"))
                        .with_code(super::TOPICS_CHANGED));
                }
                topics.push(topic);
            }
        }
        let of = |at: &usize| {
            let topic = self.lanes[*at].topic();
            topic == self.topics.message || topics.iter().any(|wanted| wanted == topic)
        };
        Ok((0..self.lanes.len()).filter(of).collect())
    }

    /// The lane with event `index` at its front; waits until it has arrived.
    async fn find(&mut self, lanes: &[usize], end: &End, xid: u32, index: u64) -> Result<usize> {
        loop {
            let mut empty = false;
            for &at in lanes {
                loop {
                    self.lanes[at].fill(&mut self.decoder)?;
                    match self.lanes[at].due(xid, index, &self.over) {
                        Due::This => return Ok(at),
                        Due::Before => {
                            self.lanes[at].take();
                            continue;
                        }
                        Due::Single => {
                            if let Some(Some(event)) = self.lanes[at].take_single()
                                && let Some(change) = self.lanes[at].change(*event)?
                            {
                                self.push(Event::Change(change)).await?;
                            }
                            continue;
                        }
                        Due::Empty => empty = true,
                        Due::Other => {}
                    }
                    break;
                }
            }
            if !empty {
                let topics: Vec<&str> = lanes.iter().map(|&at| self.lanes[at].topic()).collect();
                return Err(incomplete(end, index, &topics));
            }
            // Part of a large transaction may be in the writer's hands already.
            self.flush().await?;
            self.wait().await;
        }
    }
}
