//! What is said of changes that the target refuses: the table, the privileges, the transaction and the way out.

use pg::{Class, Error};

use super::piece::Piece;
use super::worker::Applier;

impl Applier {
    /// Names the table, and the privileges that applying to it takes.
    pub(super) fn about(&self, error: Error, table: &pg::QualifiedName) -> Error {
        let error = error.context(format_args!("table {table}"));
        if !error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) {
            return error;
        }
        let user = pg::quote_ident(&self.user);
        error.hint(format!(
            "run on the target: GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO {user}; the run then goes on by itself"
        ))
    }

    /// Names the transaction and the way out.
    pub(super) fn explain(&self, error: Error, piece: &Piece, index: usize) -> Error {
        if error.class() != Class::Stop {
            return error;
        }
        let single = piece.transactions.len() <= 1;
        let commit_lsn = piece.commit_lsn(index);
        let run = &self.options.run;
        let cure = match error.hint_text() {
            Some(hint) => hint.to_owned(),
            None if error.is("42501") => {
                "grant the run's role what it lacks; the run goes on by itself".to_owned()
            }
            None => "remove the cause and the run goes on by itself".to_owned(),
        };
        if !single {
            return error;
        }
        error.context(format_args!("the transaction committed at {commit_lsn} can't be applied")).hint(
            format!(
                "{cure}; or leave the transaction out, on the record: walferry skip {commit_lsn} --name {run}"
            ),
        )
    }
}
