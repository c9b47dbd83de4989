//! Between the stream and the topics: lets through what is taken.

use std::collections::HashMap;
use std::sync::Arc;

use pg::Result;
use pipeline::{Change, ChangeSink, Chunk, Durable, Event, Relation, RelationId};
use tokio::sync::watch;

use super::Capture;
use super::view::View;

/// A sink that gets part of what is streamed. BEGIN and COMMIT always go through: a transaction of which nothing is left is a position.
pub struct Captured<S> {
    sink: S,
    capture: Capture,
    /// By table, with the version that it was made of.
    views: HashMap<RelationId, (Arc<Relation>, View)>,
}

impl<S: ChangeSink> Captured<S> {
    pub fn new(capture: Capture, sink: S) -> Captured<S> {
        Captured { sink, capture, views: HashMap::new() }
    }

    fn view(&mut self, relation: &Arc<Relation>) -> Result<&View> {
        let known = self.views.get(&relation.id).is_some_and(|(of, _)| Arc::ptr_eq(of, relation));
        if !known {
            let view = View::of(&self.capture, relation)?;
            self.views.insert(relation.id, (relation.clone(), view));
        }
        Ok(self.views.get(&relation.id).map_or(&View::Whole, |(_, view)| view))
    }

    /// None: nothing of it is taken.
    fn change(&mut self, change: Change) -> Result<Option<Change>> {
        let skipped = self.capture.settings.skipped_operations;
        let (is_skipped, relation) = match &change {
            Change::Insert { relation, .. } => (skipped.create, relation.clone()),
            Change::Update { relation, .. } => (skipped.update, relation.clone()),
            Change::Delete { relation, .. } => (skipped.delete, relation.clone()),
            Change::Truncate { .. } if skipped.truncate => return Ok(None),
            Change::Truncate { relations, cascade, restart_identity } => {
                let mut left = Vec::with_capacity(relations.len());
                for relation in relations {
                    match self.view(relation)? {
                        View::Nothing => {}
                        View::Whole => left.push(relation.clone()),
                        View::Part(part) => left.push(part.relation()),
                    }
                }
                let (cascade, restart_identity) = (*cascade, *restart_identity);
                let some = !left.is_empty();
                return Ok(some.then_some(Change::Truncate { relations: left, cascade, restart_identity }));
            }
        };
        if is_skipped {
            return Ok(None);
        }
        Ok(match self.view(&relation)? {
            View::Nothing => None,
            View::Whole => Some(change),
            View::Part(part) => Some(part.of(change)),
        })
    }
}

impl<S: ChangeSink> ChangeSink for Captured<S> {
    async fn send(&mut self, chunk: Chunk) -> Result<()> {
        let mut left = Chunk::default();
        for event in chunk.events {
            match event {
                Event::Change(change) => {
                    if let Some(change) = self.change(change)? {
                        left.push(Event::Change(change));
                    }
                }
                Event::Message { ref prefix, .. } if !self.capture.message(prefix) => {}
                event => left.push(event),
            }
        }
        self.sink.send(left).await
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.sink.durable()
    }
}

#[cfg(test)]
mod tests {
    use pg::{Lsn, QualifiedName};
    use pipeline::direct::direct;
    use pipeline::{ChangeSource, Column, OldTuple, PgTimestamp, RelationColumn, ReplicaIdentity, Tuple};

    use super::super::tests::capture;
    use super::*;

    fn relation(id: u32, name: &str) -> Arc<Relation> {
        let column =
            |name: &str, key| RelationColumn { name: name.into(), type_id: 25, type_modifier: -1, key };
        Arc::new(Relation {
            id: RelationId(id),
            name: QualifiedName::new("s", name),
            identity: ReplicaIdentity::Default,
            columns: vec![column("secret", false), column("id", true), column("body", false)],
        })
    }

    fn row(values: [&str; 3]) -> Tuple {
        Tuple::from_columns(&values.map(|value| Column::Text(value.as_bytes())))
    }

    async fn through(sets: &[&str], changes: Vec<Change>) -> Vec<String> {
        let (sink, mut source) = direct(1 << 20, Durable::default());
        let mut captured = Captured::new(capture(sets), sink);
        let mut chunk = Chunk::default();
        chunk.push(Event::Begin { commit_lsn: Lsn::new(1), committed_at: PgTimestamp(0), xid: 1 });
        changes.into_iter().for_each(|change| chunk.push(Event::Change(change)));
        let message = |prefix: &str| Event::Message {
            transactional: true,
            lsn: Lsn::new(1),
            prefix: prefix.into(),
            content: "".into(),
        };
        chunk.push(message("a"));
        captured.send(chunk).await.unwrap();
        let text = |tuple: &Tuple| {
            let of = |column| match column {
                Column::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            tuple.columns().map(of).collect::<Vec<_>>().join(" ")
        };
        let one = |event: Event| match event {
            Event::Begin { .. } => "begin".to_owned(),
            Event::Message { prefix, .. } => format!("message {prefix}"),
            Event::Change(Change::Insert { relation, new }) => {
                format!("c {} {}", relation.name.name, text(&new))
            }
            Event::Change(Change::Update { relation, new, .. }) => {
                format!("u {} {}", relation.name.name, text(&new))
            }
            Event::Change(Change::Delete { relation, old }) => {
                format!("d {} {}", relation.name.name, text(old.tuple()))
            }
            Event::Change(Change::Truncate { relations, .. }) => {
                let names: Vec<&str> = relations.iter().map(|relation| &relation.name.name[..]).collect();
                format!("t {}", names.join(" "))
            }
            other => format!("{other:?}"),
        };
        source.recv().await.unwrap().events.into_iter().map(one).collect()
    }

    fn changes() -> Vec<Change> {
        let (a, b) = (relation(1, "a"), relation(2, "b"));
        vec![
            Change::Insert { relation: a.clone(), new: row(["x", "1", "one"]) },
            Change::Insert { relation: b.clone(), new: row(["y", "1", "uno"]) },
            Change::Update { relation: a.clone(), old: None, new: row(["x", "1", "two"]) },
            Change::Delete { relation: a.clone(), old: OldTuple::Key(row(["", "1", ""])) },
            Change::Truncate { relations: vec![a, b], cascade: false, restart_identity: false },
        ]
    }

    #[tokio::test]
    async fn what_is_not_taken_is_left_out_and_the_transaction_stays() {
        assert_eq!(
            through(&["capture.table_include=s.a"], changes()).await,
            ["begin", "c a x 1 one", "u a x 1 two", "d a  1 ", "t a"]
        );
        assert_eq!(
            through(&["capture.column_exclude=s.*.secret", "capture.message_include=a"], changes()).await,
            ["begin", "c a 1 one", "c b 1 uno", "u a 1 two", "d a 1 ", "t a b", "message a"]
        );
        assert_eq!(through(&["capture.skipped_operations=c,t,d"], changes()).await, ["begin", "u a x 1 two"]);
        assert_eq!(through(&["capture.schema_exclude=s"], changes()).await, ["begin"]);
    }

    #[tokio::test]
    async fn a_column_of_the_key_stays() {
        let (sink, _source) = direct(1 << 20, Durable::default());
        let mut captured = Captured::new(capture(&["capture.column_include=s.a.body"]), sink);
        let mut chunk = Chunk::default();
        chunk.push(Event::Change(changes().remove(0)));
        assert_eq!(captured.send(chunk).await.unwrap_err().code(), "KEY_COLUMN");
    }
}
