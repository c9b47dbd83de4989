//! Which of a row's values a statement takes, in its order.

use pipeline::Column;

use crate::apply::target::Target;

/// The values at these indexes, which ascend.
pub fn pick<'a>(
    values: impl Iterator<Item = Column<'a>>,
    wanted: impl Iterator<Item = usize>,
) -> Vec<Column<'a>> {
    let mut wanted = wanted.peekable();
    let mut picked = Vec::new();
    for (index, value) in values.enumerate() {
        if wanted.peek() == Some(&index) {
            wanted.next();
            picked.push(value);
        }
    }
    picked
}

/// The key's values in the order of `Target::key`.
pub fn key_values<'a>(target: &Target, values: impl Iterator<Item = Column<'a>>) -> Vec<Column<'a>> {
    // `Target::key` ascends: it is built in column order.
    pick(values, target.key.iter().copied())
}

/// The columns that are NULL, and the values of the others, of an old row sent whole.
pub fn full_values<'a>(target: &Target, old: &'a pipeline::Tuple) -> (Vec<u16>, Vec<Column<'a>>) {
    let mut nulls = Vec::new();
    let mut values = Vec::new();
    for (index, value) in old.columns().enumerate() {
        if !target.columns.get(index).is_some_and(|column| column.written) {
            continue;
        }
        match value {
            Column::Null | Column::Unchanged => nulls.push(index as u16),
            value => values.push(value),
        }
    }
    (nulls, values)
}
