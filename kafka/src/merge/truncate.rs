//! The parts of one TRUNCATE, one event a table, put together again.

use pipeline::Change;

/// The events of one TRUNCATE follow each other and are one command; some of its tables may be none of ours.
#[derive(Default)]
pub(super) struct Truncated {
    together: Option<Change>,
    /// Events of the command that may still come.
    left: u32,
    /// Index of the event before.
    last: u64,
}

impl Truncated {
    /// Takes the change of the event at `index`, whose command has `together` of them; answers with what is whole now, in order.
    pub(super) fn take(&mut self, change: Change, index: u64, together: u32) -> [Option<Change>; 2] {
        let part = match &change {
            Change::Truncate { .. } if together > 1 => self.belongs(&change, index),
            _ => return [self.finish(), Some(change)],
        };
        let before = if part { None } else { self.finish() };
        match (&mut self.together, change) {
            (Some(Change::Truncate { relations: all, .. }), Change::Truncate { relations, .. }) => {
                all.extend(relations);
                self.left = self.left.saturating_sub(u32::try_from(index - self.last).unwrap_or(u32::MAX));
            }
            (none, change) => {
                *none = Some(change);
                self.left = together - 1;
            }
        }
        self.last = index;
        let whole = if self.left == 0 { self.finish() } else { None };
        match before {
            Some(before) => [Some(before), whole],
            None => [whole, None],
        }
    }

    /// Nothing more of it comes.
    pub(super) fn finish(&mut self) -> Option<Change> {
        self.left = 0;
        self.together.take()
    }

    /// Can it be of the command at hand? Its first event that is ours may not be the command's first, so that what follows at once may
    /// be another one's: with a table that is there already, or other flags, it is. Else both in one do the same.
    fn belongs(&self, change: &Change, index: u64) -> bool {
        let (
            Some(Change::Truncate { relations: all, cascade, restart_identity }),
            Change::Truncate { relations, cascade: c, restart_identity: r },
        ) = (&self.together, change)
        else {
            return false;
        };
        index - self.last <= u64::from(self.left)
            && (cascade, restart_identity) == (c, r)
            && !relations.iter().any(|relation| all.iter().any(|other| other.name == relation.name))
    }
}
