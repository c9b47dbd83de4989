//! What an attempt at a piece has taught, for the next one.

use std::collections::HashSet;

use super::plan::PlanOptions;
use super::worker::ApplyOptions;
use crate::control::Skips;

/// What was found out about a piece that could not be applied as it was.
#[derive(Debug, Default)]
pub(super) struct Retry {
    /// Tables whose changes keep their order.
    pub(super) ordered: HashSet<u32>,
    /// Tables whose changes go one by one.
    pub(super) careful: HashSet<u32>,
    pub(super) all_careful: bool,
    pub(super) truncate_by_delete: bool,
    pub(super) check_before_truncate: bool,
}

impl Retry {
    pub(super) fn plan_options<'a>(&'a self, options: &ApplyOptions, skips: &'a Skips) -> PlanOptions<'a> {
        PlanOptions {
            coalesce: options.coalesce,
            sort: options.sort,
            ordered: &self.ordered,
            careful: &self.careful,
            all_careful: self.all_careful,
            truncate_by_delete: self.truncate_by_delete,
            check_before_truncate: self.check_before_truncate,
            skips,
        }
    }
}
