//! The next piece, cut and planned while the server still works at the present one.
//!
//! Nothing of it is sent before the present piece is committed. It is given back when a limit is set that it passes, and planned anew when
//! what its plan was made from has changed.

use pg::{Lsn, Result};
use pipeline::ChangeSource;

use super::attempt::Retry;
use super::piece::Piece;
use super::plan::{Plan, plan};
use super::worker::Applier;

/// A piece that waits for its turn.
pub(super) struct Ahead {
    pub piece: Piece,
    /// None: not planned, because a table is not known or a setting changed.
    pub plan: Option<Plan>,
    /// Of the tables that it was planned with.
    pub generation: u64,
    /// Where the stream stood before it.
    pub after: Lsn,
}

impl Applier {
    /// Takes what has arrived, up to one piece.
    pub(super) fn gather(&mut self, source: &mut impl ChangeSource) {
        while self.cutter.bytes() < self.options.batch_bytes
            && let Some(chunk) = source.try_recv()
        {
            chunk.events.into_iter().for_each(|event| self.cutter.push(event));
        }
    }

    /// Prepares the next piece, if there is a whole one's worth: with less, more may come until its turn.
    pub(super) fn look_ahead(&mut self, source: &mut impl ChangeSource) -> Result<()> {
        if !self.options.ahead || self.hold.is_some() || self.ahead.is_some() {
            return Ok(());
        }
        self.gather(source);
        if self.cutter.bytes() < self.options.batch_bytes {
            return Ok(());
        }
        let after = self.cutter.position();
        let Some(piece) = self.cutter.cut(self.options.batch_bytes, None)? else { return Ok(()) };
        // Nothing is looked up now: that could wait for locks of the open transaction.
        let plan = self.tables.know(&piece).then(|| {
            let retry = Retry::default();
            let options = retry.plan_options(&self.options, &self.skips);
            plan(&piece, &mut self.tables, options)
        });
        self.ahead = Some(Ahead { piece, plan, generation: self.tables.generation(), after });
        Ok(())
    }

    /// The prepared piece, unless it passes `limit`: then it goes back to where it was cut from.
    pub(super) fn take_ahead(&mut self, limit: Option<Lsn>) -> Option<Ahead> {
        let ahead = self.ahead.take()?;
        let passes = |limit: Lsn| ahead.piece.last_commit().is_some_and(|last| last >= limit);
        // Part of a transaction that is open already goes on to its commit.
        if self.open.is_none() && limit.is_some_and(passes) {
            self.cutter.put_back(ahead.piece, ahead.after);
            return None;
        }
        Some(ahead)
    }
}
