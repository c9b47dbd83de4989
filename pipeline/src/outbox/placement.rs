//! `table.fields.additional.placement`: columns that go along.

use crate::envelope::header;

/// By this header a consumer knows an event again.
pub(super) const ID: &str = "id";

/// Is a header of that name the event's own? Consumers that take the last of two would take another one for it.
pub(super) fn is_ours(name: &str) -> bool {
    [ID, header::POSITION].contains(&name)
}

/// Where a column goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Header,
    /// Into the value, which becomes an object with the payload beside it.
    Envelope,
    /// Chooses the partition.
    Partition,
}

/// One entry of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    pub column: String,
    pub place: Place,
    pub alias: String,
}

impl Placement {
    /// Reads `col:header[:alias]`, `col:envelope[:alias]` or `col:partition`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Placement, String> {
        let expected = || {
            "expected column:header[:alias], column:envelope[:alias] or column:partition, separated by commas"
                .to_owned()
        };
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (column, place, alias) = match parts.as_slice() {
            [column, place] => (*column, *place, None),
            [column, place, alias] if !alias.is_empty() => (*column, *place, Some(*alias)),
            _ => return Err(expected()),
        };
        if column.is_empty() {
            return Err(expected());
        }
        let place = match place.to_ascii_lowercase().as_str() {
            "header" => Place::Header,
            "envelope" => Place::Envelope,
            "partition" if alias.is_none() => Place::Partition,
            _ => return Err(expected()),
        };
        let alias = alias.unwrap_or(column).to_owned();
        if place == Place::Envelope && alias == "payload" {
            return Err(
                "the envelope's \"payload\" is the payload itself: give the column an alias".to_owned()
            );
        }
        Ok(Placement { column: column.to_owned(), place, alias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_trios() {
        let parsed = |text: &str| Placement::parse(text).map(|p| (p.column, p.place, p.alias));
        assert_eq!(parsed("type:header:eventType"), Ok(("type".into(), Place::Header, "eventType".into())));
        assert_eq!(parsed(" a : envelope "), Ok(("a".into(), Place::Envelope, "a".into())));
        assert_eq!(parsed("p:partition"), Ok(("p".into(), Place::Partition, "p".into())));
        for wrong in
            ["", "a", "a:b", ":header", "a:header:", "a:header:b:c", "p:partition:x", "payload:envelope"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
