//! What a reader has to know about a run, told through Kafka alone: the slot, the publications, and (in every heartbeat) run and source.
//!
//! A writer makes the slot and announces it; a reader on another host finds it in the heartbeat topic. The reader's own heartbeats repeat
//! it, so that it does not age with the topic. An announcement has no [`AFTER`](crate::sink::AFTER): it is no position of the stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pg::{Error, Lsn, Result};
use pipeline::Durable;
use pipeline::envelope::{Encoder, header};

use crate::ledger::Waiting;
use crate::options::Options;
use crate::producer::Producer;

/// How long the brokers may take to have it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the events of a prefix come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    pub slot: String,
    pub publications: Vec<String>,
}

impl Announcement {
    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let publications = serde_json::to_vec(&self.publications).unwrap_or_default();
        vec![
            (header::SLOT.to_owned(), self.slot.clone().into_bytes()),
            (header::PUBLICATIONS.to_owned(), publications),
        ]
    }

    pub(crate) fn read(text: impl Fn(&str) -> Option<String>) -> Option<Announcement> {
        let publications = serde_json::from_str(&text(header::PUBLICATIONS)?).ok()?;
        Some(Announcement { slot: text(header::SLOT)?, publications })
    }

    /// Sends it; returns when the brokers have it. `position`: where the target stands. The topic has to be there.
    pub async fn send(&self, options: &Options, encoder: &mut Encoder, position: Lsn) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        encoder.set_now(i64::try_from(now).unwrap_or(i64::MAX));
        let mut heartbeat = None;
        encoder.heartbeat(position, &mut |message| heartbeat = Some(Waiting::of(&message)));
        let Some(mut heartbeat) = heartbeat else { return Ok(()) };
        heartbeat.headers.extend(self.headers());
        let (producer, mut durable) = Producer::start(options, Durable::default())?;
        let handle = producer.handle()?;
        {
            let mut ledger = handle.shared.ledger();
            let entry = ledger.open();
            ledger.close(entry, position, heartbeat, true);
        }
        handle.mark();
        drop(handle);
        let acknowledged = durable.wait_for(|durable| durable.flushed >= position);
        let sent = tokio::time::timeout(PATIENCE, async { acknowledged.await.is_ok() }).await == Ok(true);
        let failure = producer.failure();
        producer.close().await;
        match failure {
            Some(error) => Err(error),
            None if sent => Ok(()),
            None => {
                Err(Error::connection("Kafka: the run could not be announced in time").with_code("KAFKA"))
            }
        }
    }
}
