//! One piece, in the ways that the module documentation lists: as planned, a table carefully, transaction by transaction.

use std::collections::HashSet;

use pg::{Class, Error, Result};
use pipeline::ChangeSource;

use super::acknowledge::{LONG_PATIENCE, PATIENCE};
use super::careful::{self, Outcome};
use super::commit::Commit;
use super::execute::{ExecuteOptions, Refusal};
use super::missing::Missing;
use super::piece::Piece;
use super::plan::{Plan, Step, plan};
use super::retry::Retry;
use super::unfit::narrower;
use super::worker::Applier;
use crate::control::{Counters, fenced};

/// At most so many changes that have to keep their order go into one target transaction: a value that comes and goes again and again leaves a
/// version each time, which a unique index looks at each time, and only a commit lets it forget them.
const IN_ORDER: usize = 200;

/// What came of a piece that no error stood in the way of.
enum Attempted {
    Applied,
    /// Nothing: changes of this table, of several transactions, have to keep their order.
    Crossed(u32),
}

/// What a plan that was carried out has come to.
pub(super) struct Found {
    counts: Counters,
    missing: Missing,
    /// The last row that the server answered: to the look at the target's schema, or to the commit.
    row: Option<Vec<Option<String>>>,
}

/// What follows a plan's changes in one pipeline with them.
#[derive(Clone, Copy)]
enum Then {
    Nothing,
    /// A look at the target's schema: the tables that were written to are locked by then, so that no trigger comes between it and the commit.
    Look,
    /// Nothing that the server may answer, but for an error, keeps the piece from being committed.
    Commit(Commit),
}

impl Applier {
    /// Applies a piece in whichever way it takes; `prepared`: how, if that is known.
    pub(super) async fn apply<S: ChangeSource>(
        &mut self,
        piece: Piece,
        prepared: Option<Plan>,
        source: &mut S,
    ) -> Result<()> {
        let started_here = self.open.is_none();
        let error = match self.attempt(&piece, Retry::default(), prepared, Some(source)).await {
            Ok(Attempted::Applied) => return Ok(()),
            Ok(Attempted::Crossed(table)) => {
                for part in piece.split(IN_ORDER) {
                    let retry = Retry { ordered: HashSet::from([table]), ..Retry::default() };
                    if let Err(error) = self.attempt::<S>(&part, retry, None, None).await {
                        self.carefully::<S>(part, started_here, error).await?;
                    }
                }
                return Ok(());
            }
            Err(error) => error,
        };
        self.carefully::<S>(piece, started_here, error).await
    }

    /// Applies a piece that could not be applied as planned: `error`.
    async fn carefully<S: ChangeSource>(
        &mut self,
        piece: Piece,
        started_here: bool,
        error: Error,
    ) -> Result<()> {
        if error.class() != Class::Stop {
            return Err(error);
        }
        tracing::debug!(code = error.code(), "a piece could not be applied as planned: {error}");
        if !started_here && self.open.is_none() {
            // Its transaction is gone, with the parts that came before this one: only the stored progress brings those again.
            return Err(error);
        }
        // The target may look different than it did: plans, columns, tables.
        self.tables.forget();
        self.pipeline.forget_statements()?;
        let all_careful = || Retry { all_careful: true, ..Retry::default() };
        if piece.transactions.len() <= 1 {
            self.attempt::<S>(&piece, all_careful(), None, None).await?;
            return Ok(());
        }
        debug_assert!(started_here);
        for part in piece.split(0) {
            self.attempt::<S>(&part, all_careful(), None, None).await?;
        }
        Ok(())
    }

    /// Applies one piece; on an error nothing of it is left, and the target transaction is open only if it was.
    async fn attempt<S: ChangeSource>(
        &mut self,
        piece: &Piece,
        mut retry: Retry,
        mut prepared: Option<Plan>,
        mut source: Option<&mut S>,
    ) -> Result<Attempted> {
        loop {
            let plan = match prepared.take() {
                Some(plan) => plan,
                None => {
                    self.learn(piece).await?;
                    let options = retry.plan_options(&self.options, &self.skips);
                    plan(piece, &mut self.tables, options)
                }
            };
            if let Some(misfit) = &plan.misfit {
                let error = narrower(self.catalog.client(), &misfit.target, misfit.column).await;
                return Err(self.explain(error, piece, misfit.index));
            }
            if self.open.is_none()
                && plan.steps.is_empty()
                && plan.counts.skipped == 0
                && piece.unfinished.is_none()
            {
                self.note_position(piece);
                return Ok(Attempted::Applied);
            }
            fail::fail_point!("apply-before-begin");
            let nested = self.open.is_some();
            if nested {
                self.pipeline.query("SAVEPOINT walferry_piece")?;
            } else {
                for statement in self.begin {
                    self.pipeline.command(statement)?;
                }
            }
            let then = if !plan.steps.is_empty() && self.tables.look_is_due() {
                Then::Look
            } else if !nested && piece.unfinished.is_none() && plan.is_only_inserts() {
                // Before the commit: whoever compares both sides has to know of the rows.
                self.recorder.note(piece, &mut self.tables);
                Then::Commit(self.commit_of(piece, settled(plan.counts)))
            } else {
                Then::Nothing
            };
            match self.execute(&plan, source.as_deref_mut(), then).await? {
                Ok(Found { row: Some(answer), .. })
                    if matches!(then, Then::Look)
                        && self.tables.saw(&answer)
                        && !self.still_holds(piece, &plan).await? =>
                {
                    // What the plan was made from is not so any more.
                    self.undo(nested).await?;
                }
                Ok(Found { row, .. }) if let Then::Commit(commit) = then => {
                    fail::fail_point!("apply-after-commit");
                    self.committed(commit, row.as_ref()).await?;
                    self.tell_applied(piece);
                    return Ok(Attempted::Applied);
                }
                Ok(Found { mut counts, missing, .. }) => {
                    counts.missing = missing.count();
                    self.tell_missing(&missing);
                    if nested {
                        self.pipeline.query("RELEASE SAVEPOINT walferry_piece")?;
                    }
                    self.recorder.note(piece, &mut self.tables);
                    let finished = self.finish(piece, &plan, counts).await;
                    return finished
                        .map(|()| Attempted::Applied)
                        .map_err(|error| self.explain(error, piece, 0));
                }
                Err((refusal, index)) => {
                    self.undo(nested).await?;
                    match refusal {
                        Refusal::Redo { table, .. }
                            if source.is_some() && !nested && piece.transactions.len() > 1 =>
                        {
                            return Ok(Attempted::Crossed(table));
                        }
                        Refusal::Redo { table, .. } if !retry.all_careful && retry.ordered.insert(table) => {}
                        Refusal::Redo { table, .. } if retry.careful.insert(table) => {}
                        // A TRUNCATE that a foreign key refuses; deletes are not, as replica.
                        Refusal::Error { error, .. }
                            if error.is(pg::sqlstate::FEATURE_NOT_SUPPORTED) && !retry.truncate_by_delete =>
                        {
                            retry.truncate_by_delete = true;
                        }
                        // … or one that meets checks which we put off: the source had made them.
                        Refusal::Error { error, .. }
                            if error.is(pg::sqlstate::OBJECT_IN_USE) && !retry.check_before_truncate =>
                        {
                            retry.check_before_truncate = true;
                        }
                        Refusal::Redo { error: Some(error), .. } => {
                            return Err(self.explain(error, piece, index));
                        }
                        Refusal::Redo { error: None, .. } => {
                            let error = Error::failed("PLAN_BROKEN", "a table's rows don't add up");
                            return Err(self.explain(error, piece, index));
                        }
                        Refusal::Error { error, target } => {
                            let error = match (target, then) {
                                (Some(target), _) => self.about(error, &target.name),
                                (None, Then::Commit(_)) => fenced(error, self.options.progress_key()),
                                (None, _) => error,
                            };
                            return Err(self.explain(error, piece, index));
                        }
                    }
                }
            }
        }
    }

    /// Something has changed in the target's schema: is it still so for the tables of the plan? They have been written to, so nobody
    /// changes them before the commit; undoing the piece for others, again and again, would come to no end where tables come and go.
    async fn still_holds(&mut self, piece: &Piece, plan: &Plan) -> Result<bool> {
        // Prepared statements of tables that changed are void.
        self.pipeline.forget_statements()?;
        // What can't be found out now is found out when the piece is undone.
        Ok(self.learn(piece).await.is_ok() && plan.targets().all(|target| self.tables.holds(target)))
    }

    /// Makes sure that the piece's tables are known.
    async fn learn(&mut self, piece: &Piece) -> Result<()> {
        if !piece.changes.is_empty() {
            self.tables.look(self.catalog.client()).await?;
        }
        self.looked_up().await;
        match self.tables.learn(&self.catalog, piece).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error, piece, 0)),
        }
    }

    pub(super) async fn undo(&mut self, nested: bool) -> Result<()> {
        let undo = if nested {
            "ROLLBACK TO SAVEPOINT walferry_piece; RELEASE SAVEPOINT walferry_piece"
        } else {
            "ROLLBACK"
        };
        self.pipeline.take_missing();
        // Statements whose Parse came after the error don't exist.
        self.pipeline.query(undo)?;
        self.pipeline.forget_statements()?;
        match self.pipeline.drain().await? {
            Ok(_) => Ok(()),
            Err(Refusal::Error { error, .. } | Refusal::Redo { error: Some(error), .. }) => Err(error),
            Err(Refusal::Redo { error: None, .. }) => Ok(()),
        }
    }

    /// Sends the plan. `Err`: what was refused, and the change it was when that is known.
    async fn execute<S: ChangeSource>(
        &mut self,
        plan: &Plan,
        source: Option<&mut S>,
        then: Then,
    ) -> Result<std::result::Result<Found, (Refusal, usize)>> {
        let options = ExecuteOptions {
            copy_threshold: self.options.copy_threshold,
            set_threshold: self.options.set_threshold,
        };
        let mut found = Found { counts: Counters::default(), missing: Missing::default(), row: None };
        self.merge_lists(plan);
        for step in &plan.steps {
            let Step::Row { target, change, index, careful: true } = step else {
                if let Err(error) = self.pipeline.send(step, options).await {
                    return self.not_sent(error).await;
                }
                continue;
            };
            // What was sent before has to be in, and accepted.
            if let Err(refusal) = self.pipeline.drain().await? {
                return Ok(Err((refusal, *index)));
            }
            let outcome = match careful::apply(&mut self.pipeline, target, change).await {
                Ok(outcome) => outcome,
                Err(error) => return self.not_sent(error).await,
            };
            match outcome {
                Ok(Outcome::Applied) => {}
                Ok(Outcome::Missing) => found.missing.add(Some(target)),
                Ok(Outcome::Overwritten) => {
                    found.counts.overwritten += 1;
                    if self.recorder.first_overwrite(&target.name) {
                        tracing::warn!(
                            "table {}: an insert met a row with its key, which was overwritten (said once per table)",
                            target.name
                        );
                    }
                }
                Err(refusal) => return Ok(Err((refusal, *index))),
            }
        }
        fail::fail_point!("apply-before-commit");
        match then {
            Then::Nothing => {}
            Then::Look => self.pipeline.query_prepared(&self.tables.schema(), &[])?,
            Then::Commit(commit) => self.queue_commit(commit)?,
        }
        let answers = match source {
            Some(source) => self.drain_and_look_ahead(plan, source).await?,
            None => self.pipeline.drain().await?,
        };
        match answers {
            Ok(mut rows) => {
                found.missing.merge(&self.pipeline.take_missing());
                found.row = rows.pop();
                self.merge_lists(plan);
                Ok(Ok(found))
            }
            Err(refusal) => Ok(Err((refusal, 0))),
        }
    }

    fn merge_lists(&self, plan: &Plan) {
        if let Some(merger) = &self.merger {
            merger.merge(plan);
        }
    }

    /// A change that was refused here, before it was sent: what was sent before it has to be undone as if the server had refused it.
    async fn not_sent(&mut self, error: Error) -> Result<std::result::Result<Found, (Refusal, usize)>> {
        if error.class() != Class::Stop {
            return Err(error);
        }
        Ok(Err(match self.pipeline.drain().await? {
            Err(earlier) => (earlier, 0),
            Ok(_) => (Refusal::Error { error, target: None }, 0),
        }))
    }

    fn tell_missing(&mut self, missing: &Missing) {
        for target in missing.tables() {
            if self.recorder.first_missing(&target.name) {
                tracing::warn!(
                    "table {0}: an update or delete found no row and was left out (said once per table); compare the two sides: walferry verify --table '{0}'",
                    target.name
                );
            }
        }
    }

    pub(super) async fn finish(&mut self, piece: &Piece, plan: &Plan, found: Counters) -> Result<()> {
        let mut counts = self.open.take().unwrap_or_default();
        counts.add(&plan.counts);
        counts.add(&found);
        if piece.unfinished.is_some() {
            // A large transaction counts once, when its last part is in.
            counts.transactions = 0;
            self.open = Some(counts);
            fail::fail_point!("apply-inside-transaction");
            return Ok(());
        }
        self.commit(self.commit_of(piece, settled(counts))).await?;
        self.tell_applied(piece);
        Ok(())
    }

    /// How the target transaction that ends with `piece` and has come to `counts` is committed.
    fn commit_of(&self, piece: &Piece, counts: Counters) -> Commit {
        let mut next = self.progress;
        next.seq += 1;
        next.end_lsn = piece.end_lsn;
        next.counters.add(&counts);
        let patience = if self.flusher.is_some() { LONG_PATIENCE } else { PATIENCE };
        let synchronous = !self.options.synchronous_commit && self.unflushed.overdue(patience);
        Commit { next, synchronous }
    }

    fn tell_applied(&self, piece: &Piece) {
        let progress = self.progress;
        let committed_at = piece.transactions.last().map(|tx| tx.committed_at);
        self.applied.send_modify(|applied| {
            applied.progress = progress;
            applied.committed_at = committed_at;
        });
    }
}

/// The counts of a target transaction that is complete.
fn settled(counts: Counters) -> Counters {
    Counters { transactions: counts.transactions.max(i64::from(counts.changes() > 0)), ..counts }
}
