//! Sums over buckets of rows, which add up whatever the order and the pieces in which they were read.

use pg::{Error, Result};
use tokio_postgres::Row;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    pub rows: u64,
    /// At most 2^63 rows of 63 bits: it can't overflow.
    first: i128,
    second: i128,
}

/// All buckets of one side of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sums(Vec<Sum>);

/// What differs, by how it has to be looked at.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Differing {
    /// Both sides have rows in them: to be read again on both.
    pub both: Vec<u32>,
    pub both_rows: u64,
    pub only_source: Vec<u32>,
    pub only_target: Vec<u32>,
    pub missing: u64,
    pub extra: u64,
}

impl Differing {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.both.is_empty() && self.only_source.is_empty() && self.only_target.is_empty()
    }
}

impl Sums {
    #[must_use]
    pub fn new(buckets: u32) -> Sums {
        Sums(vec![Sum::default(); buckets as usize])
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|sum| sum.rows).sum()
    }

    /// Adds one row of a result: bucket, rows, and both sums as text.
    pub fn add(&mut self, row: &Row) -> Result<u64> {
        let unreadable = || Error::failed("VERIFY_UNREADABLE", "a sum that is no number came back");
        let bucket: i32 = row.try_get(0)?;
        let rows = u64::try_from(row.try_get::<_, i64>(1)?).map_err(|_| unreadable())?;
        let number = |column: usize| -> Result<i128> {
            row.try_get::<_, &str>(column)?.parse().map_err(|_| unreadable())
        };
        let (first, second) = (number(2)?, number(3)?);
        self.add_sum(usize::try_from(bucket).map_err(|_| unreadable())?, Sum { rows, first, second })
            .ok_or_else(unreadable)?;
        Ok(rows)
    }

    fn add_sum(&mut self, bucket: usize, more: Sum) -> Option<()> {
        let sum = self.0.get_mut(bucket)?;
        sum.rows += more.rows;
        sum.first = sum.first.wrapping_add(more.first);
        sum.second = sum.second.wrapping_add(more.second);
        Some(())
    }

    #[must_use]
    pub fn differing(&self, target: &Sums) -> Differing {
        let mut differing = Differing::default();
        for (bucket, (ours, theirs)) in (0_u32..).zip(self.0.iter().zip(&target.0)) {
            if ours == theirs {
                continue;
            }
            if theirs.rows == 0 {
                differing.only_source.push(bucket);
                differing.missing += ours.rows;
            } else if ours.rows == 0 {
                differing.only_target.push(bucket);
                differing.extra += theirs.rows;
            } else {
                differing.both.push(bucket);
                differing.both_rows += ours.rows + theirs.rows;
            }
        }
        differing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(parts: &[(usize, u64, i128, i128)]) -> Sums {
        let mut sums = Sums::new(4);
        for &(bucket, rows, first, second) in parts {
            sums.add_sum(bucket, Sum { rows, first, second }).unwrap();
        }
        sums
    }

    #[test]
    fn pieces_add_up_in_any_order() {
        let one = sums(&[(0, 1, 5, -7), (0, 1, i128::from(i64::MAX), 3), (3, 2, 1, 1)]);
        let other = sums(&[(3, 2, 1, 1), (0, 1, i128::from(i64::MAX), 3), (0, 1, 5, -7)]);
        assert!(one.differing(&other).is_empty());
        assert_eq!(one.rows(), 4);
    }

    #[test]
    fn what_only_one_side_has_need_not_be_merged() {
        let one = sums(&[(0, 1, 5, 5), (1, 3, 9, 9), (2, 1, 1, 1)]);
        let other = sums(&[(0, 1, 5, 6), (2, 1, 1, 1), (3, 2, 0, 0)]);
        let differing = one.differing(&other);
        assert_eq!(
            differing,
            Differing {
                both: vec![0],
                both_rows: 2,
                only_source: vec![1],
                only_target: vec![3],
                missing: 3,
                extra: 2
            }
        );
    }
}
