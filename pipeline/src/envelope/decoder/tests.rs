mod hostile;
mod round_trip;
mod types_header;

use pg::{Lsn, QualifiedName};

use super::*;
use crate::change::{Change, PgTimestamp, Tuple};
use crate::envelope::{Encoder, Message, Values};

/// A message, owned.
#[derive(Clone, Debug)]
struct Sent {
    topic: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Sent {
    fn of(message: Message<'_>) -> Sent {
        Sent {
            topic: message.topic.to_owned(),
            key: message.key.map(<[u8]>::to_vec),
            value: message.value.map(<[u8]>::to_vec),
            headers: message
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
        }
    }

    fn decode(&self, decoder: &mut Decoder) -> Result<Decoded> {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        decoder.decode(&Record {
            topic: &self.topic,
            partition: 3,
            offset: 42,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

fn encode(options: &Options, types: Option<&TableTypes>, changes: &[Change]) -> Vec<Sent> {
    let mut encoder = Encoder::new(options.clone());
    if let Some(types) = types {
        encoder.describe(types.clone());
    }
    let mut sent = Vec::new();
    encoder.begin(Lsn::new(0x1_0000_0020), PgTimestamp(1_234_567), 5);
    for change in changes {
        encoder.change(change, &mut |message| sent.push(Sent::of(message))).unwrap();
    }
    encoder.commit(Lsn::new(0x1_0000_0030), &mut |message| sent.push(Sent::of(message)));
    sent
}

fn values(tuple: &Tuple) -> Vec<String> {
    tuple.columns().map(|column| format!("{column:?}")).collect()
}
