//! Which relation goes to which table: looked up by schema and name, again whenever either side's description changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pg::{Error, Lsn, QualifiedName, Result, quote_ident, quote_literal};
use pipeline::{Change, Relation, RelationId};
use tokio_postgres::Client;

use super::lookup::{Catalog, Wanted, look_up};
use super::piece::Piece;
use super::target::Target;
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
                    let oid = table.spec.as_ref().map(|spec| spec.oid);
                    Some((table.name.clone(), FedTable { copied_at, left_at: table.left_at, oid }))
                })
                .collect(),
        )
    }
}

/// The names of the fed tables by what they were when the run last looked at the source, under any name.
fn by_oid(feed: &Feed) -> HashMap<u32, QualifiedName> {
    let here = feed.0.iter().filter(|(_, fed)| fed.left_at.is_none());
    here.filter_map(|(name, fed)| Some((fed.oid?, name.clone()))).collect()
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
/// table has which name; and of the columns that were generated when they were met, how many are no longer.
const SCHEMA: &str = "
SELECT (SELECT coalesce(sum(oid::bigint * pg_catalog.ascii(tgenabled::text)), 0)::text FROM pg_catalog.pg_trigger
        WHERE tgenabled IN ('A', 'R')),
       (SELECT coalesce(sum(oid::bigint * pg_catalog.ascii(ev_enabled::text)), 0)::text FROM pg_catalog.pg_rewrite
        WHERE ev_enabled IN ('A', 'R')),
       (SELECT coalesce(sum((oid::bigint % 65536) * pg_catalog.hashtext(relname::text || relkind::text || relnamespace::text)), 0)::text
        FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'f') AND relpersistence <> 't' AND oid >= 16384),
       UNGENERATED,
       extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())::text";

/// Tables that are looked up at once.
const AT_ONCE: usize = 2000;

/// At most this often the target's schema is looked at, and rarer where that takes long.
const LOOK_SPACING: Duration = Duration::from_millis(100);

/// The cache of matched tables.
pub struct Tables {
    feed: Feed,
    /// Names of the fed tables by the source's OID, but for those that have left.
    by_oid: HashMap<u32, QualifiedName>,
    /// What [`SCHEMA`] answered last, when, and after which time it is asked again.
    seen: Option<([String; 4], Instant, Duration)>,
    /// Columns that the stream brings and the target generates: OID of the table and name.
    generated: HashSet<(u32, String)>,
    replica: bool,
    /// The stream's values come in binary.
    binary: bool,
    /// By the address of the relation's version; the entry keeps it alive, so no other version has the address.
    entries: HashMap<usize, Entry>,
    /// The version that was learnt last of each relation.
    newest: HashMap<RelationId, usize>,
    /// A relation among the entries has a newer version.
    superseded: bool,
    next_id: u32,
    generation: u64,
    /// A table with triggers or rules that fire was learnt.
    fires: bool,
    last: Option<(usize, Arc<Target>)>,
}

fn address(relation: &Arc<Relation>) -> usize {
    Arc::as_ptr(relation) as usize
}

impl Tables {
    pub fn new(feed: Feed, replica: bool, binary: bool) -> Self {
        Tables {
            by_oid: by_oid(&feed),
            feed,
            newest: HashMap::new(),
            seen: None,
            generated: HashSet::new(),
            replica,
            binary,
            entries: HashMap::new(),
            superseded: false,
            next_id: 0,
            generation: 0,
            fires: false,
            last: None,
        }
    }

    pub fn set_feed(&mut self, feed: Feed) {
        self.by_oid = by_oid(&feed);
        self.feed = feed;
        self.forget();
    }

    /// The target may look different now: look everything up again.
    pub fn forget(&mut self) {
        self.generation += 1;
        self.fires = false;
        self.entries.clear();
        self.newest.clear();
        self.generated.clear();
        self.last = None;
    }

    /// Asks for what [`Tables::saw`] takes as the answer.
    pub fn schema(&self) -> String {
        let generated: Vec<String> = self
            .generated
            .iter()
            .map(|(table, column)| format!("({table}::oid, {}::name)", quote_literal(column)))
            .collect();
        let ungenerated = if generated.is_empty() {
            "'0'".to_owned()
        } else {
            format!(
                "(SELECT count(*)::text FROM pg_catalog.pg_attribute WHERE attgenerated = '' AND attnum > 0
                  AND (attrelid, attname) IN (VALUES {}))",
                generated.join(", ")
            )
        };
        SCHEMA.replace("UNGENERATED", &ungenerated)
    }

    /// The first look at the target's schema: what is learnt from now on is known to be no older.
    pub async fn look(&mut self, client: &Client) -> Result<()> {
        if self.seen.is_some() {
            return Ok(());
        }
        let row = client.query_one(&self.schema(), &[]).await?;
        self.saw(&[row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)]);
        Ok(())
    }

    /// Is it time to look again? The question then goes out with the changes, and its answer is [`Tables::saw`] before they are committed.
    pub fn look_is_due(&self) -> bool {
        self.seen.as_ref().is_none_or(|(_, at, pause)| at.elapsed() >= *pause)
    }

    /// The answer to [`Tables::schema`]. True: the target's schema has changed since the last one, and everything known of it is forgotten.
    /// Prepared statements are void as well.
    pub fn saw(&mut self, answer: &[Option<String>]) -> bool {
        let text = |index: usize| answer.get(index).cloned().flatten().unwrap_or_default();
        let now = [text(0), text(1), text(2), text(3)];
        let took = Duration::try_from_secs_f64(text(4).parse().unwrap_or(0.0)).unwrap_or_default();
        let changed = self.seen.as_ref().is_some_and(|(before, ..)| *before != now);
        self.seen = Some((now, Instant::now(), (took * 20).clamp(LOOK_SPACING, LOOK_SPACING * 10)));
        if changed {
            self.forget();
        }
        changed
    }

    /// Rises whenever everything is forgotten: plans made before are void.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Is everything known that the piece's changes refer to?
    pub fn know(&self, piece: &Piece) -> bool {
        let known = |relation: &Arc<Relation>| self.entries.contains_key(&address(relation));
        let mut previous = None;
        piece.changes.iter().all(|change| match change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => {
                previous.replace(address(relation)) == Some(address(relation)) || known(relation)
            }
            Change::Truncate { relations, .. } => relations.iter().all(known),
        })
    }

    /// What these changes refer to and is not known yet; without tables that are none of ours, or were renamed: those are [`learn`]'s.
    ///
    /// [`learn`]: Tables::learn
    pub fn unknown<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) -> Vec<Wanted> {
        let fed: Vec<_> = self
            .not_known(changes)
            .into_iter()
            .filter_map(|relation| Some((relation.clone(), *self.feed.0.get(&relation.name)?)))
            .collect();
        fed.into_iter().map(|(relation, fed)| self.want(relation, fed)).collect()
    }

    /// The relations of these changes that are not known, each once.
    fn not_known<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Vec<Arc<Relation>> {
        let (mut met, mut unknown) = (HashSet::new(), Vec::new());
        let mut previous = None;
        for change in changes {
            let relations = match change {
                Change::Insert { relation, .. }
                | Change::Update { relation, .. }
                | Change::Delete { relation, .. } => {
                    if previous.replace(address(relation)) == Some(address(relation)) {
                        continue;
                    }
                    std::slice::from_ref(relation)
                }
                Change::Truncate { relations, .. } => relations,
            };
            for relation in relations {
                if !self.entries.contains_key(&address(relation)) && met.insert(address(relation)) {
                    unknown.push(relation.clone());
                }
            }
        }
        unknown
    }

    /// Looks relations up, without these tables: the answer is for [`Tables::met`].
    pub fn look_up(
        &self,
        catalog: Arc<Catalog>,
        wanted: Vec<Wanted>,
    ) -> impl Future<Output = Result<Vec<Target>>> + use<> {
        let (replica, binary) = (self.replica, self.binary);
        async move {
            let mut found = Vec::with_capacity(wanted.len());
            for group in wanted.chunks(AT_ONCE) {
                found.extend(look_up(&catalog, group, replica, binary).await?);
            }
            Ok(found)
        }
    }

    /// Looks up what the piece's changes refer to and is not known yet.
    pub async fn learn(&mut self, catalog: &Arc<Catalog>, piece: &Piece) -> Result<()> {
        // Older versions of relations that no change refers to any more. Never while a piece is being learnt: a change whose relation is
        // not known would be left out.
        if std::mem::take(&mut self.superseded) {
            self.entries.retain(|_, entry| Arc::strong_count(entry.relation()) > 1);
        }
        let mut wanted = Vec::new();
        for relation in self.not_known(piece.changes.iter()) {
            match self.fed(catalog.client(), &relation).await? {
                Some(fed) => wanted.push(self.want(relation, fed)),
                None => self.enter(&relation.clone(), Entry::Ignored(relation)),
            }
        }
        if !wanted.is_empty() {
            let found = self.look_up(catalog.clone(), wanted).await?;
            self.met(found);
        }
        Ok(())
    }

    /// Is this what is known of its table?
    pub fn holds(&self, target: &Target) -> bool {
        let entry = self.entries.get(&address(&target.relation));
        matches!(entry, Some(Entry::Fed(found)) if target.is_still(found))
    }

    /// These are known from now on.
    pub fn met(&mut self, found: Vec<Target>) {
        for target in found {
            let generated = target.columns.iter().zip(&target.relation.columns);
            let generated = generated.filter(|(here, _)| !here.written);
            self.generated.extend(generated.map(|(_, column)| (target.oid, column.name.clone())));
            let relation = target.relation.clone();
            self.fires |= target.triggers;
            self.enter(&relation, Entry::Fed(Arc::new(target)));
        }
    }

    fn want(&mut self, relation: Arc<Relation>, fed: FedTable) -> Wanted {
        self.next_id += 1;
        Wanted { relation, id: self.next_id, copied_at: fed.copied_at, left_at: fed.left_at }
    }

    /// What the run feeds of a relation; `None` when it is none of ours.
    async fn fed(&self, client: &Client, relation: &Relation) -> Result<Option<FedTable>> {
        let renamed = self.by_oid.get(&relation.id.0).filter(|name| **name != relation.name);
        match (self.feed.0.get(&relation.name), renamed) {
            (Some(fed), _) => Ok(Some(*fed)),
            (None, None) => Ok(None),
            // Its changes are not to be lost: they wait until the target's table has the name too.
            (None, Some(before))
                if exists(client, &relation.name).await? && !exists(client, before).await? =>
            {
                Ok(self.feed.0.get(before).copied())
            }
            (None, Some(before)) => Err(was_renamed(before, &relation.name)),
        }
    }

    fn enter(&mut self, relation: &Arc<Relation>, entry: Entry) {
        let before = self.newest.insert(relation.id, address(relation));
        self.superseded |= before.is_some_and(|before| before != address(relation));
        self.last = None;
        self.entries.insert(address(relation), entry);
    }

    /// Is there a table among those that were learnt whose triggers or rules fire?
    pub fn any_fires(&self) -> bool {
        self.fires
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
