//! What comes next, prepared while the server still works at the present piece: its tables are looked up, it is cut and planned.
//!
//! Nothing of it is sent before the present piece is committed. It is given back when a limit is set that it passes, and planned anew when
//! what its plan was made from has changed.

use std::pin::pin;

use pg::{Lsn, Result};
use pipeline::ChangeSource;
use tokio_util::task::AbortOnDropHandle;

use super::execute::Answers;
use super::piece::Piece;
use super::plan::{Plan, Step, plan};
use super::retry::Retry;
use super::tables::Tables;
use super::target::Target;
use super::worker::{Applier, ApplyOptions};
use crate::control::Skips;

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

impl Ahead {
    /// Plans it, if its tables are known by now.
    fn plan(&mut self, tables: &mut Tables, options: &ApplyOptions, skips: &Skips) {
        if self.plan.is_none() && tables.know(&self.piece) {
            let retry = Retry::default();
            self.generation = tables.generation();
            self.plan = Some(plan(&self.piece, tables, retry.plan_options(options, skips)));
        }
    }
}

/// Tables that are being looked up.
pub(super) struct LookUp {
    generation: u64,
    found: AbortOnDropHandle<Result<Vec<Target>>>,
}

impl LookUp {
    /// Waits for the answer. What was asked of a target that looks different by now is of no use, and neither is an error: who needs the
    /// table asks again.
    async fn found(&mut self) -> Option<(u64, Vec<Target>)> {
        (&mut self.found).await.ok()?.ok().map(|found| (self.generation, found))
    }
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

    /// Cuts the next piece, if there is a whole one's worth: with less, more may come until its turn.
    fn cut_ahead(&mut self) -> Result<()> {
        if self.hold.is_some() || self.ahead.is_some() || self.cutter.bytes() < self.options.batch_bytes {
            return Ok(());
        }
        let after = self.cutter.position();
        let Some(piece) = self.cutter.cut(self.options.batch_bytes, None)? else { return Ok(()) };
        let mut ahead = Ahead { piece, plan: None, generation: 0, after };
        ahead.plan(&mut self.tables, &self.options, &self.skips);
        self.ahead = Some(ahead);
        Ok(())
    }

    /// Asks for the tables of all that waits. Another session asks, and nobody waits for its answer before the target transaction of now is
    /// committed: it may want a lock that this one holds, or that somebody waits for who waits for this one.
    fn look_up_ahead(&mut self, present: &Plan) {
        let locks = present.steps.iter().any(|step| matches!(step, Step::Truncate { .. }));
        if locks || self.look_up.is_some() {
            return;
        }
        let ahead = self.ahead.iter().filter(|ahead| ahead.plan.is_none());
        let waiting = ahead.flat_map(|ahead| &ahead.piece.changes).chain(self.cutter.changes());
        let wanted = self.tables.unknown(waiting);
        if !wanted.is_empty() {
            let found = tokio::spawn(self.tables.look_up(self.catalog.clone(), wanted));
            self.look_up =
                Some(LookUp { generation: self.tables.generation(), found: AbortOnDropHandle::new(found) });
        }
    }

    /// Reads the server's answers to `present`, and prepares what comes next meanwhile.
    pub(super) async fn drain_and_look_ahead(
        &mut self,
        present: &Plan,
        source: &mut impl ChangeSource,
    ) -> Result<Answers> {
        if self.options.ahead {
            self.pipeline.flush().await?;
            // Of a large transaction, whose next part has to wait for the answer while the target transaction is open.
            let part = self.open.is_some() || self.cutter.inside();
            self.gather(source);
            self.cut_ahead()?;
            if !part {
                self.look_up_ahead(present);
            }
        }
        let Applier { pipeline, look_up, tables, ahead, options, skips, .. } = self;
        let mut drained = pin!(pipeline.drain());
        if let Some(asked) = look_up {
            tokio::select! {
                biased;
                answers = &mut drained => return answers,
                found = asked.found() => {
                    *look_up = None;
                    know(tables, found);
                    if let Some(ahead) = ahead {
                        ahead.plan(tables, options, skips);
                    }
                }
            }
        }
        drained.await
    }

    /// Waits for tables that are being looked up.
    pub(super) async fn looked_up(&mut self) {
        if let Some(mut asked) = self.look_up.take() {
            know(&mut self.tables, asked.found().await);
        }
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

fn know(tables: &mut Tables, found: Option<(u64, Vec<Target>)>) {
    if let Some((generation, found)) = found
        && generation == tables.generation()
    {
        tables.met(found);
    }
}
