//! Which relation goes to which table: looked up by schema and name, again whenever either side's description changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pg::{Error, Lsn, QualifiedName, Result, quote_ident};
use pipeline::{Change, Relation};
use tokio_postgres::Client;

use super::piece::Piece;
use super::target::{Target, resolve};
use crate::control::{RunTable, TableState};

/// A table that the run feeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FedTable {
    pub copied_at: Lsn,
    pub left_at: Option<Lsn>,
    /// On the source; by it a table is known again that was renamed there.
    pub oid: Option<u32>,
}

/// What the run feeds, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Feed(pub HashMap<QualifiedName, FedTable>);

impl Feed {
    /// Tables whose copied-at LSN is known.
    #[must_use]
    pub fn of(tables: &[RunTable]) -> Feed {
        Feed(
            tables
                .iter()
                .filter(|table| {
                    matches!(table.state, TableState::Copied | TableState::Ready | TableState::Left)
                })
                .filter_map(|table| {
                    let copied_at = table.copied_at?;
                    let oid = table.spec["oid"].as_u64().and_then(|oid| u32::try_from(oid).ok());
                    Some((table.name.clone(), FedTable { copied_at, left_at: table.left_at, oid }))
                })
                .collect(),
        )
    }
}

impl Feed {
    /// The table that this relation was when the run last looked at the source, under another name.
    fn renamed(&self, relation: &Relation) -> Option<(&QualifiedName, &FedTable)> {
        self.0.iter().find(|(_, fed)| fed.oid == Some(relation.id.0) && fed.left_at.is_none())
    }
}

enum Entry {
    /// None of ours: not fed, or not (any longer) published for us.
    Ignored(Arc<Relation>),
    Fed(Arc<Target>),
}

impl Entry {
    fn relation(&self) -> &Arc<Relation> {
        match self {
            Entry::Ignored(relation) => relation,
            Entry::Fed(target) => &target.relation,
        }
    }
}

/// What a change of the target's schema shows in that no statement would fail on: triggers and rules that fire on a replica, and which
/// table has which name.
const SCHEMA: &str = "
SELECT (SELECT coalesce(sum(oid::bigint * pg_catalog.ascii(tgenabled::text)), 0)::text FROM pg_catalog.pg_trigger
        WHERE tgenabled IN ('A', 'R')),
       (SELECT coalesce(sum(oid::bigint * pg_catalog.ascii(ev_enabled::text)), 0)::text FROM pg_catalog.pg_rewrite
        WHERE ev_enabled IN ('A', 'R')),
       (SELECT coalesce(sum((oid::bigint % 65536) * pg_catalog.hashtext(relname::text || relkind::text || relnamespace::text)), 0)::text
        FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'f') AND relpersistence <> 't' AND oid >= 16384)";

/// At most this often the target's schema is looked at, and rarer where that takes long.
const LOOK_SPACING: Duration = Duration::from_millis(100);

/// The cache of matched tables.
pub struct Tables {
    feed: Feed,
    /// What [`SCHEMA`] answered last, when, and after which time it is asked again.
    seen: Option<([String; 3], Instant, Duration)>,
    replica: bool,
    /// By the address of the relation's version; the entry keeps it alive, so no other version has the address.
    entries: HashMap<usize, Entry>,
    /// A relation among the entries has a newer version.
    superseded: bool,
    next_id: u32,
    last: Option<(usize, Arc<Target>)>,
}

fn address(relation: &Arc<Relation>) -> usize {
    Arc::as_ptr(relation) as usize
}

impl Tables {
    pub fn new(feed: Feed, replica: bool) -> Self {
        Tables {
            feed,
            seen: None,
            replica,
            entries: HashMap::new(),
            superseded: false,
            next_id: 0,
            last: None,
        }
    }

    pub fn set_feed(&mut self, feed: Feed) {
        self.feed = feed;
        self.forget();
    }

    /// The target may look different now: look everything up again.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.last = None;
    }

    /// Looks whether the target's schema has changed since; then everything known of it is forgotten. True: prepared statements are void
    /// as well.
    pub async fn look(&mut self, client: &Client) -> Result<bool> {
        if self.seen.as_ref().is_some_and(|(_, at, pause)| at.elapsed() < *pause) {
            return Ok(false);
        }
        let began = Instant::now();
        let row = client.query_one(SCHEMA, &[]).await?;
        let now = [row.get(0), row.get(1), row.get(2)];
        let changed = self.seen.as_ref().is_some_and(|(before, ..)| *before != now);
        self.seen =
            Some((now, Instant::now(), (began.elapsed() * 10).clamp(LOOK_SPACING, LOOK_SPACING * 10)));
        if changed {
            self.forget();
        }
        Ok(changed)
    }

    /// Looks up what the piece's changes refer to and is not known yet.
    pub async fn learn(&mut self, client: &Client, piece: &Piece) -> Result<()> {
        // Older versions of relations that no change refers to any more. Never while a piece is being learnt: a change whose relation is
        // not known would be left out.
        if std::mem::take(&mut self.superseded) {
            self.entries.retain(|_, entry| Arc::strong_count(entry.relation()) > 1);
        }
        let mut previous = None;
        for change in &piece.changes {
            match change {
                Change::Insert { relation, .. }
                | Change::Update { relation, .. }
                | Change::Delete { relation, .. } => {
                    if previous.replace(address(relation)) != Some(address(relation)) {
                        self.learn_relation(client, relation).await?;
                    }
                }
                Change::Truncate { relations, .. } => {
                    for relation in relations {
                        self.learn_relation(client, relation).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn learn_relation(&mut self, client: &Client, relation: &Arc<Relation>) -> Result<()> {
        if self.entries.contains_key(&address(relation)) {
            return Ok(());
        }
        self.superseded |= self.entries.values().any(|entry| entry.relation().id == relation.id);
        let renamed = self.feed.renamed(relation).filter(|(name, _)| **name != relation.name);
        let fed = match (self.feed.0.get(&relation.name), renamed) {
            (Some(fed), _) => Some(*fed),
            (None, None) => None,
            // Its changes are not to be lost: they wait until the target's table has the name too.
            (None, Some((before, fed)))
                if exists(client, &relation.name).await? && !exists(client, before).await? =>
            {
                Some(*fed)
            }
            (None, Some((before, _))) => return Err(was_renamed(before, &relation.name)),
        };
        let entry = match fed {
            None => Entry::Ignored(relation.clone()),
            Some(fed) => {
                self.next_id += 1;
                let target =
                    resolve(client, relation, self.next_id, self.replica, fed.copied_at, fed.left_at).await?;
                Entry::Fed(Arc::new(target))
            }
        };
        self.last = None;
        self.entries.insert(address(relation), entry);
        Ok(())
    }

    /// The table that a relation's change committed at `commit_lsn` goes to; `None` when it is none of ours. The relation must have
    /// been learnt.
    pub fn target(&mut self, relation: &Arc<Relation>, commit_lsn: Lsn) -> Option<Arc<Target>> {
        if let Some((last, target)) = &self.last
            && *last == address(relation)
        {
            return target.wants(commit_lsn).then(|| target.clone());
        }
        debug_assert!(self.entries.contains_key(&address(relation)), "a relation that was not learnt");
        match self.entries.get(&address(relation))? {
            Entry::Ignored(_) => None,
            Entry::Fed(target) => {
                self.last = Some((address(relation), target.clone()));
                target.wants(commit_lsn).then(|| target.clone())
            }
        }
    }
}

async fn exists(client: &Client, name: &QualifiedName) -> Result<bool> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = $1 AND c.relname = $2)",
            &[&name.schema, &name.name],
        )
        .await?;
    Ok(row.get(0))
}

fn was_renamed(before: &QualifiedName, now: &QualifiedName) -> Error {
    let statement = if before.schema == now.schema {
        format!("ALTER TABLE {before} RENAME TO {}", quote_ident(&now.name))
    } else {
        format!("ALTER TABLE {before} SET SCHEMA {}", quote_ident(&now.schema))
    };
    Error::stop("TABLE_RENAMED", format!("table {before} was renamed to {now} on the source"))
        .hint(format!("run on the target: {statement}; the run then goes on by itself"))
}
