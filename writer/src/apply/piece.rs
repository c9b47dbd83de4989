//! Cuts the stream into pieces: as many whole transactions as fit, or a part of one that doesn't.

use std::collections::VecDeque;

use pg::{Error, Lsn, Result};
use pipeline::{Change, Event, PgTimestamp};

/// One source transaction in a piece.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    pub commit_lsn: Lsn,
    pub end_lsn: Lsn,
    pub committed_at: PgTimestamp,
    /// Index of the first change behind it in [`Piece::changes`].
    pub end: usize,
}

/// Changes to be applied together.
#[derive(Debug, Default)]
pub struct Piece {
    pub changes: Vec<Change>,
    /// Whole transactions, in commit order. Empty when the piece is a part in the middle of one.
    pub transactions: Vec<Transaction>,
    /// The piece is a part of this transaction and more follows.
    pub unfinished: Option<Lsn>,
    /// The position reached after the piece: an end LSN or an idle position.
    pub end_lsn: Lsn,
    pub bytes: usize,
}

impl Piece {
    /// The same changes in pieces of at most so many, or of one transaction that has more; 0: each transaction alone.
    pub fn split(self, most: usize) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut changes = self.changes.into_iter();
        let mut start = 0;
        for tx in self.transactions {
            let count = tx.end - start;
            start = tx.end;
            let full = |piece: &Piece| most == 0 || piece.changes.len() + count > most;
            if pieces.last().is_none_or(full) {
                pieces.push(Piece::default());
            }
            let Some(piece) = pieces.last_mut() else { break };
            let before = piece.changes.len();
            piece.changes.extend(changes.by_ref().take(count));
            piece.bytes += piece.changes[before..].iter().map(Change::bytes).sum::<usize>();
            piece.end_lsn = tx.end_lsn;
            piece.transactions.push(Transaction { end: piece.changes.len(), ..tx });
        }
        pieces
    }

    /// The highest commit LSN in the piece.
    pub fn last_commit(&self) -> Option<Lsn> {
        self.unfinished.or(self.transactions.last().map(|tx| tx.commit_lsn))
    }

    /// The commit LSN of the first transaction.
    pub fn first_commit(&self) -> Option<Lsn> {
        self.transactions.first().map(|tx| tx.commit_lsn).or(self.unfinished)
    }

    /// Changes with the commit LSN of each.
    pub fn positions(&self) -> impl Iterator<Item = (Lsn, &Change)> {
        let mut transactions = self.transactions.iter();
        let mut current = transactions.next();
        self.changes.iter().enumerate().map(move |(index, change)| {
            while current.is_some_and(|tx| tx.end <= index) {
                current = transactions.next();
            }
            (current.map(|tx| tx.commit_lsn).or(self.unfinished).unwrap_or_default(), change)
        })
    }

    /// Commit LSN of the transaction that change `index` belongs to.
    pub fn commit_lsn(&self, index: usize) -> Lsn {
        let at = self.transactions.partition_point(|tx| tx.end <= index);
        self.transactions.get(at).map(|tx| tx.commit_lsn).or(self.unfinished).unwrap_or_default()
    }
}

/// What the stream holds that was not yet handed out.
#[derive(Default)]
pub struct Cutter {
    waiting: VecDeque<Event>,
    bytes: usize,
    /// Complete transactions among `waiting`.
    commits: usize,
    /// The transaction whose first part has been handed out.
    inside: Option<Lsn>,
    last_end: Lsn,
}

impl Cutter {
    pub fn new(progress: Lsn) -> Self {
        Cutter { last_end: progress, ..Cutter::default() }
    }

    pub fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        if matches!(event, Event::Commit { .. }) {
            self.commits += 1;
        }
        self.waiting.push_back(event);
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes that wait.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.waiting.iter().filter_map(|event| match event {
            Event::Change(change) => Some(change),
            _ => None,
        })
    }

    /// A part of a transaction has been handed out and its commit has not.
    pub fn inside(&self) -> bool {
        self.inside.is_some()
    }

    /// The commit LSN of the next transaction, or the idle position, that waits at the front.
    pub fn next_position(&self) -> Option<Lsn> {
        self.waiting.iter().find_map(|event| match event {
            Event::Begin { commit_lsn, .. } => Some(*commit_lsn),
            Event::Idle { lsn } => Some(*lsn),
            _ => None,
        })
    }

    /// Where the stream stands: behind everything that was handed out.
    pub fn position(&self) -> Lsn {
        self.last_end
    }

    /// Takes a piece back that was handed out last and begins with a transaction; `position` is what it was before.
    pub fn put_back(&mut self, piece: Piece, position: Lsn) {
        let idle = piece.transactions.last().map_or(Lsn::ZERO, |tx| tx.end_lsn);
        let mut events = Vec::with_capacity(piece.changes.len() + 2 * piece.transactions.len() + 1);
        let begin = |commit_lsn, committed_at| Event::Begin { commit_lsn, committed_at, xid: 0 };
        let mut changes = piece.changes.into_iter();
        let mut start = 0;
        for tx in &piece.transactions {
            events.push(begin(tx.commit_lsn, tx.committed_at));
            events.extend(changes.by_ref().take(tx.end - start).map(Event::Change));
            start = tx.end;
            let Transaction { commit_lsn, end_lsn, committed_at, .. } = *tx;
            events.push(Event::Commit { commit_lsn, end_lsn, committed_at });
        }
        if let Some(commit_lsn) = piece.unfinished {
            events.push(begin(commit_lsn, PgTimestamp::default()));
            events.extend(changes.map(Event::Change));
        } else if piece.end_lsn > idle {
            events.push(Event::Idle { lsn: piece.end_lsn });
        }
        for event in events.into_iter().rev() {
            self.bytes += event.bytes();
            self.commits += usize::from(matches!(event, Event::Commit { .. }));
            self.waiting.push_front(event);
        }
        self.inside = None;
        self.last_end = position;
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.waiting.pop_front()?;
        self.bytes -= event.bytes();
        if matches!(event, Event::Commit { .. }) {
            self.commits -= 1;
        }
        Some(event)
    }

    /// The next piece of about `limit_bytes`: transactions with a commit LSN below `before` only. `None` when there is nothing to
    /// hand out. A transaction that doesn't fit gets target transactions of its own: what stood before it goes first.
    pub fn cut(&mut self, limit_bytes: usize, before: Option<Lsn>) -> Result<Option<Piece>> {
        let mut piece = Piece { end_lsn: self.last_end, ..Piece::default() };
        let mut moved = false;
        // The rest of a transaction whose first part went before is applied alone: its target transaction is open already.
        let rest = self.inside.is_some();
        loop {
            let full = piece.bytes >= limit_bytes && (self.inside.is_none() || piece.transactions.is_empty());
            if full || (rest && !piece.transactions.is_empty()) {
                break;
            }
            // A transaction starts only when all of it is here, or when it is alone and too large.
            if self.inside.is_none()
                && let Some(Event::Begin { commit_lsn, .. }) = self.waiting.front()
            {
                if before.is_some_and(|limit| *commit_lsn >= limit) {
                    break;
                }
                let whole = self.commits > 0;
                if !whole && (moved || self.bytes < limit_bytes) {
                    break;
                }
            }
            match self.waiting.front() {
                None => break,
                // An idle position past the limit is still the truth: nothing below it is left.
                Some(Event::Idle { .. }) if self.inside.is_some() => {
                    return Err(protocol("an idle position inside a transaction"));
                }
                Some(_) => {}
            }
            let Some(event) = self.pop() else { break };
            piece.bytes += event.bytes();
            match event {
                Event::Begin { commit_lsn, .. } => {
                    if self.inside.replace(commit_lsn).is_some() {
                        return Err(protocol("BEGIN inside a transaction"));
                    }
                }
                Event::Change(change) => {
                    if self.inside.is_none() {
                        return Err(protocol("a change outside of a transaction"));
                    }
                    if piece.changes.is_empty() {
                        // Little more than a piece waits (`Applier::gather`).
                        piece.changes.reserve_exact(self.waiting.len() + 1);
                    }
                    piece.changes.push(change);
                }
                Event::Message { .. } => {}
                Event::Commit { commit_lsn, end_lsn, committed_at } => {
                    if self.inside.take() != Some(commit_lsn) {
                        return Err(protocol("COMMIT of another transaction"));
                    }
                    piece.transactions.push(Transaction {
                        commit_lsn,
                        end_lsn,
                        committed_at,
                        end: piece.changes.len(),
                    });
                    piece.end_lsn = piece.end_lsn.max(end_lsn);
                }
                Event::Idle { lsn } => piece.end_lsn = piece.end_lsn.max(lsn),
            }
            moved = true;
        }
        piece.unfinished = self.inside;
        debug_assert!(piece.unfinished.is_none() || piece.transactions.is_empty());
        self.last_end = piece.end_lsn;
        Ok(moved.then_some(piece))
    }
}

fn protocol(what: &str) -> Error {
    Error::failed("STREAM_BROKEN", format!("the stream has {what}"))
        .hint("this is a defect of walferry or of the carrier; nothing of the transaction was applied")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(at: u64) -> Event {
        Event::Begin { commit_lsn: Lsn::new(at), committed_at: PgTimestamp(0), xid: 1 }
    }

    fn change() -> Event {
        Event::Change(Change::Truncate { relations: Vec::new(), cascade: false, restart_identity: false })
    }

    fn commit(at: u64) -> Event {
        Event::Commit { commit_lsn: Lsn::new(at), end_lsn: Lsn::new(at + 1), committed_at: PgTimestamp(0) }
    }

    fn cutter(events: Vec<Event>) -> Cutter {
        let mut cutter = Cutter::new(Lsn::ZERO);
        events.into_iter().for_each(|event| cutter.push(event));
        cutter
    }

    #[test]
    fn whole_transactions_go_together() {
        let mut cutter = cutter(vec![
            begin(10),
            change(),
            commit(10),
            begin(20),
            change(),
            change(),
            commit(20),
            begin(30),
        ]);
        let piece = cutter.cut(1 << 20, None).unwrap().unwrap();
        assert_eq!(piece.transactions.len(), 2);
        assert_eq!((piece.end_lsn, piece.unfinished), (Lsn::new(21), None));
        assert_eq!(
            (piece.commit_lsn(0), piece.commit_lsn(1), piece.commit_lsn(2)),
            (Lsn::new(10), Lsn::new(20), Lsn::new(20))
        );
        assert!(cutter.cut(1 << 20, None).unwrap().is_none());
    }

    #[test]
    fn a_piece_is_split_between_transactions() {
        let mut events = Vec::new();
        for (at, changes) in [(10, 2), (20, 0), (30, 1), (40, 5), (50, 1)] {
            events.push(begin(at));
            events.extend((0..changes).map(|_| change()));
            events.push(commit(at));
        }
        let split = |most| {
            let piece = cutter(events.clone()).cut(1 << 20, None).unwrap().unwrap();
            let of = |piece: Piece| {
                assert_eq!(piece.transactions.last().map(|tx| tx.end), Some(piece.changes.len()));
                assert_eq!(piece.transactions.last().map(|tx| tx.end_lsn), Some(piece.end_lsn));
                (piece.transactions.len(), piece.changes.len())
            };
            piece.split(most).into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(split(0), [(1, 2), (1, 0), (1, 1), (1, 5), (1, 1)]);
        assert_eq!(split(3), [(3, 3), (1, 5), (1, 1)]);
        assert_eq!(split(100), [(5, 9)]);
    }

    #[test]
    fn a_transaction_too_large_goes_alone_and_in_parts() {
        let mut events = vec![begin(10), change(), commit(10), begin(20)];
        events.extend((0..100).map(|_| change()));
        events.extend([commit(20), begin(30), change(), commit(30)]);
        let limit = 10 * change().bytes();
        let mut cutter = Cutter::new(Lsn::ZERO);
        let mut events = events.into_iter();
        let mut pieces = Vec::new();
        loop {
            while cutter.bytes() < limit
                && let Some(event) = events.next()
            {
                cutter.push(event);
            }
            match cutter.cut(limit, None).unwrap() {
                Some(piece) => pieces.push(piece),
                None => break,
            }
        }
        assert_eq!(pieces.iter().map(|p| p.changes.len()).sum::<usize>(), 102);
        let with_rest: Vec<_> = pieces.iter().filter(|p| p.unfinished.is_some()).collect();
        assert!(with_rest.iter().all(|p| p.transactions.is_empty() && p.unfinished == Some(Lsn::new(20))));
        assert!(!with_rest.is_empty());
        assert_eq!(pieces.last().unwrap().end_lsn, Lsn::new(31));
    }

    #[test]
    fn a_piece_given_back_is_cut_again() {
        let mut events = vec![begin(10), change(), commit(10), begin(20), change(), change(), commit(20)];
        events.push(Event::Idle { lsn: Lsn::new(25) });
        let mut cutter = cutter(events);
        let bytes = cutter.bytes();
        let piece = cutter.cut(1 << 20, None).unwrap().unwrap();
        assert_eq!((piece.first_commit(), piece.last_commit()), (Some(Lsn::new(10)), Some(Lsn::new(20))));
        let lsns: Vec<Lsn> = piece.positions().map(|(lsn, _)| lsn).collect();
        assert_eq!(lsns, [Lsn::new(10), Lsn::new(20), Lsn::new(20)]);
        cutter.put_back(piece, Lsn::ZERO);
        assert_eq!((cutter.bytes(), cutter.position()), (bytes, Lsn::ZERO));
        let piece = cutter.cut(1 << 20, Some(Lsn::new(20))).unwrap().unwrap();
        assert_eq!((piece.end_lsn, piece.changes.len()), (Lsn::new(11), 1));
        let piece = cutter.cut(1 << 20, None).unwrap().unwrap();
        assert_eq!((piece.end_lsn, piece.changes.len()), (Lsn::new(25), 2));
    }

    #[test]
    fn the_first_part_of_a_large_transaction_can_be_given_back() {
        let mut events = vec![begin(20)];
        events.extend((0..100).map(|_| change()));
        events.push(commit(20));
        let mut cutter = cutter(events);
        let limit = 10 * change().bytes();
        let part = cutter.cut(limit, None).unwrap().unwrap();
        assert_eq!(part.unfinished, Some(Lsn::new(20)));
        cutter.put_back(part, Lsn::ZERO);
        assert!(!cutter.inside() && cutter.cut(limit, Some(Lsn::new(20))).unwrap().is_none());
        let mut changes = 0;
        while let Some(piece) = cutter.cut(limit, None).unwrap() {
            changes += piece.changes.len();
        }
        assert_eq!(changes, 100);
    }

    #[test]
    fn nothing_at_or_past_the_limit_is_handed_out() {
        let mut cutter = cutter(vec![begin(10), change(), commit(10), begin(20), change(), commit(20)]);
        let piece = cutter.cut(1 << 20, Some(Lsn::new(20))).unwrap().unwrap();
        assert_eq!(piece.end_lsn, Lsn::new(11));
        assert!(cutter.cut(1 << 20, Some(Lsn::new(20))).unwrap().is_none());
        assert_eq!(cutter.next_position(), Some(Lsn::new(20)));
    }
}
