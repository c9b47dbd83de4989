//! Bytes that PostgreSQL's output plugin, or somebody's producer, might have sent.

use bytes::Bytes;
use pipeline::ColumnType;
use pipeline::copy::{ColumnShape, RowCheck};
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

/// Rows of a COPY in text format, each with its length before it, into columns that keep less in every way there is: in whole messages,
/// and with each of them in two parts, must be the same.
pub fn rows(mut data: &[u8]) {
    /// A type and its modifier.
    type Kind = (u32, i32);
    // There and here.
    const NARROWED: [(Kind, Kind); 16] = [
        ((1700, -1), (1700, (10 << 16 | 2) + 4)),
        ((1700, -1), (1700, (3 << 16 | 0x7fe) + 4)),
        ((1231, -1), (1231, (10 << 16 | 2) + 4)),
        ((701, -1), (700, -1)),
        ((1700, -1), (700, -1)),
        ((20, -1), (701, -1)),
        ((1700, -1), (790, -1)),
        ((25, -1), (1043, 7)),
        ((25, -1), (1042, 7)),
        ((25, -1), (19, -1)),
        ((1114, -1), (1114, 0)),
        ((1114, -1), (1082, -1)),
        ((1186, -1), (1186, 0x7fff_0001)),
        ((25, -1), (18, -1)),
        // A time of day, and fields of an interval: only NULL is kept whole.
        ((1114, -1), (1083, -1)),
        ((1186, -1), (1186, 0x0008_ffff)),
    ];
    let names: Vec<String> = (0..NARROWED.len()).map(|n| n.to_string()).collect();
    let side = |of: fn(&(Kind, Kind)) -> Kind| -> Vec<ColumnShape> {
        let shape = |(name, pair): (&String, _)| {
            let (id, modifier) = of(pair);
            ColumnShape {
                name: name.clone(),
                of: ColumnType::of_stream(id, modifier),
                ..ColumnShape::default()
            }
        };
        names.iter().zip(&NARROWED).map(shape).collect()
    };
    let check = RowCheck::of(&names, &side(|pair| pair.0), &side(|pair| pair.1)).expect("all are narrower");
    let (mut whole, mut parts) = (check.clone(), check);
    while let Some(row) = part(&mut data) {
        let length = u32::try_from(row.len() + 4).expect("of two bytes");
        let message = [&[b'd'][..], &length.to_be_bytes(), row].concat();
        let (first, second) =
            message.split_at(5 + row.first().map_or(0, |byte| usize::from(*byte) % row.len()));
        let taken = whole.take(&message);
        assert_eq!(taken, parts.take(first).and_then(|()| parts.take(second)));
        if taken.is_err() {
            return;
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
