//! A row as it will be written: the newest values, over an older version where a value did not change and was not sent.

use pipeline::{Column, Tuple};

/// Values of one row. `under` holds what `new` leaves out as unchanged: rarely there, so it takes no room in every row.
#[derive(Clone, Debug)]
pub struct Row {
    new: Tuple,
    under: Option<Box<Tuple>>,
}

impl Row {
    pub fn new(new: Tuple) -> Self {
        Row { new, under: None }
    }

    /// The values in column order; `Unchanged` where neither version has one.
    pub fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        let mut under = self.under.as_ref().map(|under| under.columns());
        self.new.columns().map(move |value| {
            let older = under.as_mut().and_then(Iterator::next);
            match value {
                Column::Unchanged => older.unwrap_or(Column::Unchanged),
                value => value,
            }
        })
    }

    /// A later version of the same row arrives.
    #[must_use]
    pub fn merged(self, newer: Tuple) -> Row {
        let hides = |column: Column<'_>| column != Column::Unchanged;
        if newer.columns().all(hides) {
            return Row::new(newer);
        }
        let covers = self.new.columns().zip(newer.columns()).all(|(old, new)| hides(new) || !hides(old));
        if covers {
            // Everything that `newer` leaves out, `new` left out too: the values lie in `under`, if anywhere.
            return Row { new: newer, under: self.under };
        }
        let flat: Vec<Column<'_>> = self.columns().collect();
        let under = Tuple::from_columns(&flat);
        Row { new: newer, under: Some(Box::new(under)) }
    }

    /// Positions of the columns without a value.
    pub fn unchanged(&self) -> Vec<u16> {
        self.columns().enumerate().filter(|(_, c)| *c == Column::Unchanged).map(|(i, _)| i as u16).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: Column<'static> = Column::Unchanged;

    fn t(values: &[Column<'_>]) -> Tuple {
        Tuple::from_columns(values)
    }

    #[test]
    fn unchanged_values_come_from_the_version_before() {
        let a = Column::Text(b"a");
        let b = Column::Text(b"b");
        let row = Row::new(t(&[a, a])).merged(t(&[b, U]));
        assert_eq!(row.columns().collect::<Vec<_>>(), [b, a]);
        let row = row.merged(t(&[a, U])).merged(t(&[Column::Null, U]));
        assert_eq!(row.columns().collect::<Vec<_>>(), [Column::Null, a]);
        let row = row.merged(t(&[U, b]));
        assert_eq!(row.columns().collect::<Vec<_>>(), [Column::Null, b]);
        let row = Row::new(t(&[a, U])).merged(t(&[b, U]));
        assert_eq!(row.unchanged(), [1]);
    }
}
