//! Idle positions out of heartbeats. Each says: between `after`, the end of what its reader had sent, and `lsn` there is nothing.

use pg::Lsn;

/// The position that waits until what is before it was handed on.
#[derive(Default)]
pub(super) struct Idle(Option<Waiting>);

struct Waiting {
    after: Lsn,
    lsn: Lsn,
    /// Of the heartbeat that says so, the first of several.
    offset: i64,
}

impl Idle {
    /// The heartbeat at `offset`.
    pub(super) fn heard(&mut self, after: Lsn, lsn: Lsn, offset: i64) {
        self.0 = Some(match self.0.take() {
            // Nothing between the one that still waits and this one either.
            Some(waiting) if after <= waiting.lsn => Waiting { lsn: waiting.lsn.max(lsn), ..waiting },
            _ => Waiting { after, lsn, offset },
        });
    }

    /// Once everything up to `last` was handed on: the position that follows it.
    pub(super) fn due(&mut self, last: Lsn) -> Option<Lsn> {
        self.0.take_if(|waiting| waiting.after <= last).map(|waiting| waiting.lsn).filter(|lsn| *lsn > last)
    }

    /// Where somebody else has to take up the heartbeats, if this one has taken those before `next`. One that waits was not read: without it
    /// what lies up to the reader's next heartbeat would be waited for, and there may be nothing.
    pub(super) fn unread(&self, next: i64) -> i64 {
        self.0.as_ref().map_or(next, |waiting| waiting.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(value: u64) -> Lsn {
        Lsn::new(value)
    }

    #[test]
    fn a_position_follows_what_is_before_it() {
        let mut idle = Idle::default();
        idle.heard(lsn(30), lsn(35), 7);
        assert_eq!(idle.due(lsn(20)), None);
        idle.heard(lsn(35), lsn(38), 8);
        assert_eq!(idle.due(lsn(30)), Some(lsn(38)));
        assert_eq!(idle.due(lsn(38)), None);
        idle.heard(lsn(30), lsn(35), 9);
        assert_eq!(idle.due(lsn(38)), None, "older than what was handed on");
    }

    /// Killed with the transaction that ends at 20 stored, between it and the position: whoever takes up has to hear it again.
    #[test]
    fn what_waits_is_taken_up_again() {
        let mut idle = Idle::default();
        idle.heard(lsn(30), lsn(35), 7);
        idle.heard(lsn(35), lsn(38), 8);
        let stored = idle.unread(9);
        assert_eq!(stored, 7);
        let heartbeats = [(7, lsn(30), lsn(35)), (8, lsn(35), lsn(38)), (9, lsn(38), lsn(40))];
        let mut successor = Idle::default();
        for (offset, after, position) in heartbeats {
            if offset >= stored {
                successor.heard(after, position, offset);
            }
        }
        assert_eq!(successor.due(lsn(30)), Some(lsn(40)));
        assert_eq!(successor.unread(10), 10);
    }
}
