//! Which of the readers' heartbeats count as positions.
//!
//! One says: what was sent ends at `after`, and between that and `lsn` there is nothing. So it is worth no more than `after` is: an END may
//! be missing there that was never acknowledged, because it goes to another topic.

use pg::Lsn;

/// Takes the heartbeats in their order.
pub(crate) struct Covered {
    /// Everything up to here is in the topics, or in the target.
    up_to: Option<Lsn>,
    /// What would cover the next one may have aged out of the topics.
    unknown: Unknown,
}

/// What can't be told any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unknown {
    Nothing,
    /// What was before the first heartbeat that is left.
    First,
    /// There are no ENDs to compare with.
    All,
}

impl Covered {
    /// `end`: of the last END.
    pub(crate) fn new(end: Option<Lsn>, unknown: Unknown) -> Covered {
        Covered { up_to: end, unknown }
    }

    /// The target had everything up to here.
    pub(crate) fn announced(&mut self, position: Option<Lsn>) {
        self.up_to = self.up_to.max(position);
    }

    /// Does this heartbeat count?
    pub(crate) fn counts(&mut self, after: Lsn, lsn: Lsn) -> bool {
        // The one that opens a stream has its own position behind it: what is before was in the topics or in the target.
        let counts = self.unknown != Unknown::Nothing || after >= lsn || Some(after) <= self.up_to;
        if self.unknown == Unknown::First {
            self.unknown = Unknown::Nothing;
        }
        if counts {
            self.up_to = self.up_to.max(Some(lsn));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(mut covered: Covered, heartbeats: &[(u64, u64)]) -> Vec<bool> {
        heartbeats.iter().map(|(after, lsn)| covered.counts(Lsn::new(*after), Lsn::new(*lsn))).collect()
    }

    #[test]
    fn a_heartbeat_behind_an_end_that_is_missing_does_not_count() {
        let covered = || Covered::new(Some(Lsn::new(20)), Unknown::Nothing);
        // The transaction that ends at 30 has no END.
        assert_eq!(counted(covered(), &[(20, 25), (30, 35), (30, 40)]), [true, false, false]);
        assert_eq!(counted(covered(), &[(10, 15), (20, 25), (25, 40)]), [true; 3]);
        assert_eq!(counted(covered(), &[(30, 30), (30, 40)]), [true; 2], "a stream that began at 30");
        let mut announced = covered();
        announced.announced(Some(Lsn::new(30)));
        assert_eq!(counted(announced, &[(30, 35)]), [true]);
    }

    #[test]
    fn what_has_aged_out_of_the_topics_is_not_held_against_what_is_left() {
        let covered = |unknown| Covered::new(None, unknown);
        assert_eq!(counted(covered(Unknown::First), &[(30, 35), (30, 40), (50, 60)]), [true, true, false]);
        assert_eq!(counted(covered(Unknown::All), &[(30, 35), (50, 60)]), [true; 2]);
        assert_eq!(counted(covered(Unknown::Nothing), &[(30, 35)]), [false]);
    }
}
