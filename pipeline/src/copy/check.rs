//! Looks at the rows of one COPY in text format, where columns of the target may lose a part of a value in silence.

use memchr::memchr2;

use super::ColumnShape;
use crate::fit::Fit;

/// Bytes of a CopyData message before its payload: a tag, and the length of what follows the tag.
const HEADER: usize = 5;

/// Follows one COPY.
#[derive(Clone, Debug)]
pub struct RowCheck {
    fits: Vec<Option<Fit>>,
    column: usize,
    /// Of the message: how much is to come.
    left: usize,
    /// Of a value that is looked at, which may come in parts.
    value: Vec<u8>,
}

impl RowCheck {
    /// For a COPY of these columns; both sides' shapes are looked up by name. `None`: every value is kept whole, or refused.
    #[must_use]
    pub fn of(columns: &[String], source: &[ColumnShape], target: &[ColumnShape]) -> Option<RowCheck> {
        let fit = |name: &String| {
            let of = |side: &[ColumnShape]| {
                side.iter().find(|column| column.name == *name).map(|column| column.of)
            };
            Fit::of(of(source)?, of(target)?)
        };
        let fits: Vec<Option<Fit>> = columns.iter().map(fit).collect();
        fits.iter().any(Option::is_some).then_some(RowCheck { fits, column: 0, left: 0, value: Vec::new() })
    }

    /// Takes the next CopyData messages of the COPY, or the next part of a long one.
    ///
    /// # Errors
    /// Which of the columns would lose a part of its value, and how.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), (usize, Fit)> {
        loop {
            if self.left == 0 {
                let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else { return Ok(()) };
                let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                self.left = length.saturating_sub(HEADER - 1);
                bytes = payload;
            }
            let (payload, after) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= payload.len();
            self.scan(payload)?;
            bytes = after;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tabs and ends of lines are never part of a value: there they are written as `\t` and `\n`.
    fn scan(&mut self, mut payload: &[u8]) -> Result<(), (usize, Fit)> {
        while let Some(at) = memchr2(b'\t', b'\n', payload) {
            self.keep(&payload[..at]);
            self.value_ends()?;
            self.column = if payload[at] == b'\t' { self.column + 1 } else { 0 };
            payload = &payload[at + 1..];
        }
        self.keep(payload);
        Ok(())
    }

    fn fit(&self) -> Option<Fit> {
        self.fits.get(self.column).copied().flatten()
    }

    fn keep(&mut self, part: &[u8]) {
        if self.fit().is_some() {
            self.value.extend_from_slice(part);
        }
    }

    fn value_ends(&mut self) -> Result<(), (usize, Fit)> {
        let Some(fit) = self.fit() else { return Ok(()) };
        let holds = self.value == b"\\N" || fit.holds(&unescaped(&self.value));
        self.value.clear();
        if holds { Ok(()) } else { Err((self.column, fit)) }
    }
}

/// As many bytes as the value has: what a backslash and a letter stand for is of no interest here.
fn unescaped(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !value.contains(&b'\\') {
        return value.into();
    }
    let mut bytes = value.iter().copied();
    let mut out = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::ColumnType;
    use proptest::prelude::*;

    fn shape(name: &str, id: u32, modifier: i32) -> ColumnShape {
        ColumnShape { name: name.into(), of: ColumnType::of_stream(id, modifier), ..ColumnShape::default() }
    }

    /// text, numeric to numeric(10,2), text to varchar(3).
    fn check() -> RowCheck {
        let names = ["a", "n", "v"].map(str::to_owned);
        let source = [shape("n", 1700, -1), shape("v", 25, -1), shape("a", 25, -1)];
        let target = [shape("a", 25, -1), shape("n", 1700, (10 << 16 | 2) + 4), shape("v", 1043, 7)];
        RowCheck::of(&names, &source, &target).unwrap()
    }

    fn messages(rows: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for row in rows {
            out.push(b'd');
            out.extend_from_slice(&(row.len() as u32 + 4).to_be_bytes());
            out.extend_from_slice(row.as_bytes());
        }
        out
    }

    #[test]
    fn the_column_is_named() {
        let take = |rows: &[&str]| check().take(&messages(rows)).map_err(|(column, _)| column);
        assert_eq!(take(&["x\\t1.555\t1.55\tabc\n", "\\N\t\\N\t\\N\n", "\t0\t\\t\\t \n"]), Ok(()));
        assert_eq!(take(&["x\t1.50\tabc\n", "x\t1.555\tabc\n"]), Err(1));
        assert_eq!(take(&["x\t1.50\tabc \n"]), Err(2));
        assert_eq!(take(&["x\t1.50\t\\t\\t\\t \n"]), Err(2));
    }

    #[test]
    fn columns_that_take_everything_are_not_looked_at() {
        let same = [shape("a", 25, -1)];
        assert!(RowCheck::of(&["a".to_owned()], &same, &same).is_none());
    }

    proptest! {
        /// However the messages are cut behind their headers.
        #[test]
        fn parts_of_a_row(cut in 5usize..20, wrong in any::<bool>()) {
            let row = if wrong { "xyz\t123.456\tv\n" } else { "xyz\t123.450\tv\n" };
            let bytes = messages(&[row]);
            let mut check = check();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let taken = check.take(first).and_then(|()| check.take(second));
            prop_assert_eq!(taken.is_err(), wrong);
        }
    }
}
