//! Bytes that PostgreSQL's output plugin, or somebody's producer, might have sent.

use bytes::Bytes;
use pipeline::envelope::{Decoder, Dialect, Options, Record, Values, header};

/// Splits off a part whose length stands before it.
fn part<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (part, rest) = rest.split_at(length);
    *data = rest;
    Some(part)
}

/// Messages of one connection: each with its length before it.
pub fn pgoutput(mut data: &[u8]) {
    let mut decoder = reader::pgoutput::Decoder::new();
    while let Some(message) = part(&mut data) {
        let inside = decoder.in_transaction();
        match decoder.decode(Bytes::copy_from_slice(message)) {
            Ok(Some(event)) => drop(event.bytes()),
            Ok(None) => assert_eq!(inside, decoder.in_transaction(), "a description opens no transaction"),
            // The connection would be given up.
            Err(error) => return drop(error.to_string()),
        }
    }
}

/// Records of our own topics.
pub fn envelope(data: &[u8]) {
    for values in [Values::Postgres, Values::Debezium] {
        records(data, values, Dialect::Walferry);
    }
}

/// Records of a Debezium connector.
pub fn foreign(data: &[u8]) {
    records(data, Values::Debezium, Dialect::Debezium);
}

/// One byte says which topic and headers, then key and value.
fn records(mut data: &[u8], values: Values, dialect: Dialect) {
    const TOPICS: [&str; 5] =
        ["p.public.t", "p.transaction", "__debezium-heartbeat.p", "p.message", "p.a.b.c"];
    // A row's headers and a marker's, seven in all, which is what three bits count to.
    let third = match values {
        Values::Postgres => header::END,
        Values::Debezium => header::TYPES,
    };
    let headers_of_records = [
        header::POSITION,
        header::EPOCH,
        third,
        header::COMMITTED_AT,
        header::UNCHANGED,
        header::NEW_KEY,
        header::TRUNCATE,
    ];
    let mut decoder = Decoder::new(Options::new("p", "d", values), dialect);
    for offset in 0..16 {
        let Some((&kind, rest)) = data.split_first() else { return };
        data = rest;
        let (Some(key), Some(value)) = (part(&mut data), part(&mut data)) else { return };
        let mut headers = Vec::new();
        for header in headers_of_records.iter().take(usize::from(kind >> 5)) {
            let Some(value) = part(&mut data) else { break };
            headers.push((*header, value));
        }
        let record = Record {
            topic: TOPICS[usize::from(kind & 7) % TOPICS.len()],
            partition: 0,
            offset,
            key: (kind & 8 == 0).then_some(key),
            value: (kind & 16 == 0).then_some(value),
            headers: &headers,
        };
        if let Err(error) = decoder.decode(&record) {
            assert_eq!(error.class(), pg::Class::Stop, "what is malformed stops: {error:?}");
        }
    }
}
