//! Dead letters that are tried again, once their cause is gone.

use tokio_postgres::{Client, Row, Transaction};

use crate::commit::commit;
use crate::connect::Connect;
use crate::error::{Error, Failure};
use crate::event::{Typed, typed};
use crate::message::{Message, Payload, Place};
use crate::worker::{Handler, Worker};

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    pub handled: u64,
    /// Dead as before; the letter has the new error.
    pub failed: u64,
}

const LETTERS: &str = "
    SELECT topic, id FROM inbox.dead_letters WHERE consumer = $1 ORDER BY dead_at, topic, partition, position";

const TAKE: &str = "
    DELETE FROM inbox.dead_letters WHERE (consumer, topic, id) = ($1, $2, $3)
    RETURNING key, value, headers, partition, position";

const NOTE: &str = "
    UPDATE inbox.dead_letters SET error = $4, attempts = attempts + 1, dead_at = now()
    WHERE (consumer, topic, id) = ($1, $2, $3)";

impl<C: Connect> Worker<C> {
    /// Tries every letter of `inbox.dead_letters` once more ([`DeadLetters::Table`](crate::DeadLetters::Table)), in the order in which they
    /// came, each in a transaction of its own that also takes the letter away. May run beside workers.
    ///
    /// # Errors
    /// The database's, beside the handler's.
    pub async fn replay<H: Handler>(&self, handler: &H) -> Result<Replayed, Error> {
        let mut client = self.connect.connect().await?;
        let group = &self.options.group;
        let mut replayed = Replayed::default();
        for row in client.query(LETTERS, &[group]).await? {
            let (topic, id): (String, String) = (row.get(0), row.get(1));
            match again(&mut client, group, &topic, &id, self.options.payload, handler).await {
                Ok(true) => replayed.handled += 1,
                // Somebody else has it.
                Ok(false) => {}
                Err(failure) => {
                    replayed.failed += 1;
                    client.execute(NOTE, &[group, &topic, &id, &failure.text.replace('\0', "")]).await?;
                }
            }
        }
        Ok(replayed)
    }
}

async fn again<H: Handler>(
    client: &mut Client,
    group: &str,
    topic: &str,
    id: &str,
    form: Payload,
    handler: &H,
) -> Result<bool, Failure> {
    let tx: Transaction<'_> = client.transaction().await?;
    let Some(row) = tx.query_opt(TAKE, &[&group, &topic, &id]).await? else { return Ok(false) };
    let message = message(topic, id, &row, form)?;
    match typed::<H::Event>(&message) {
        Ok(Typed::Event(event)) => handler.handle(&tx, event, &message).await?,
        Ok(Typed::Unknown) => return Err(Failure::poison("the event's type is not known")),
        Err(error) => return Err(Failure::poison(error)),
    }
    commit(tx).await?;
    Ok(true)
}

fn message(topic: &str, id: &str, row: &Row, form: Payload) -> Result<Message, Failure> {
    let headers: serde_json::Value = row.get(2);
    let headers = headers
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    // A record without an id of its own, or with one that can't be kept, was put aside under its place.
    let headers: Vec<(&str, &str)> = std::iter::once(("id", id)).chain(headers).collect();
    let place = Place { topic, partition: row.get(3), offset: row.get(4) };
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    Ok(Message::from_parts(place, row.get(0), row.get(1), headers, form)?)
}
