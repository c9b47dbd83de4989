//! C2: exactly the source's events were applied.
//!
//! An independent slot with another output plugin (test_decoding: no publication, no code shared) keeps every
//! event of the source. What it counts between a table's copied-at LSN and the applied LSN has to **equal** the
//! counters of the run: less is a loss, more a double apply, even where the rows came out the same.

use std::collections::{BTreeMap, HashMap};

use pg::Lsn;

use crate::support::Postgres;
use crate::support::walferry::{Status, lsn};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// A TRUNCATE of three tables counts three.
    pub truncated: u64,
}

/// The oracle slot of one database. Make it before the run: it needs nothing of it.
pub struct Events<'a> {
    source: &'a Postgres,
    database: String,
    slot: String,
}

struct Event {
    /// `schema.table` without quotes.
    table: String,
    kind: Kind,
    /// End of the transaction's commit record.
    end: Lsn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl<'a> Events<'a> {
    pub async fn record(source: &'a Postgres, database: &str) -> Self {
        let events = Self::of_slot(source, database).await;
        let make = format!("SELECT pg_create_logical_replication_slot('{}', 'test_decoding')", events.slot);
        source.sql(database, &make).await;
        events
    }

    /// What the oracle's slot has on this server, where it is already: `oracle_` and the database's oid.
    pub async fn of_slot(source: &'a Postgres, database: &str) -> Self {
        let oid: u32 = source
            .value("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{database}'"))
            .await;
        Self { source, database: database.to_owned(), slot: format!("oracle_{oid}") }
    }

    /// Fails unless the counters of the status are exactly what the source committed.
    pub async fn expect_applied(&self, status: &Status) {
        self.expect_all_applied(std::slice::from_ref(status)).await;
    }

    /// As `expect_applied`, of several runs: the source's WAL is decoded once.
    pub async fn expect_all_applied(&self, statuses: &[Status]) {
        let seen = self.seen().await;
        for status in statuses {
            let counted = Counts {
                inserted: status.count("inserted"),
                updated: status.count("updated"),
                deleted: status.count("deleted"),
                truncated: status.count("truncated"),
            };
            let expected = seen.expected(status);
            assert_eq!(
                counted, expected,
                "applied (left) and committed on the source (right); {:#}",
                status.0
            );
        }
    }

    /// What the run has to have counted: of each of its tables what committed at or after its copied-at LSN and
    /// ended at or before the applied LSN.
    pub async fn expected(&self, status: &Status) -> Counts {
        self.seen().await.expected(status)
    }

    /// All events so far by table.
    pub async fn all(&self) -> BTreeMap<String, Counts> {
        self.seen().await.per_table(|event| Some(event.table.clone()))
    }

    async fn seen(&self) -> Seen {
        Seen { events: self.events().await, parents: self.parents().await }
    }

    async fn events(&self) -> Vec<Event> {
        let statement = format!(
            "SELECT lsn::text, substr(data, 1, 4000) FROM pg_logical_slot_peek_changes('{}', NULL, NULL, 'include-xids', '0')",
            self.slot
        );
        let mut events = Vec::new();
        let mut open: Vec<(String, Kind)> = Vec::new();
        for row in self.source.query(&self.database, &statement).await {
            let (at, data): (String, String) = (row.get(0), row.get(1));
            if let Some(change) = data.strip_prefix("table ") {
                open.extend(parse(change));
            } else if data.starts_with("COMMIT") {
                let end = lsn(&at);
                events.extend(open.drain(..).map(|(table, kind)| Event { table, kind, end }));
            }
        }
        events
    }

    async fn parents(&self) -> HashMap<String, String> {
        let statement = "SELECT cn.nspname || '.' || c.relname, pn.nspname || '.' || p.relname
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
             JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
             WHERE c.relispartition";
        let rows = self.source.query(&self.database, statement).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// What the slot has shown.
struct Seen {
    events: Vec<Event>,
    /// Partition → its parent.
    parents: HashMap<String, String>,
}

impl Seen {
    fn expected(&self, status: &Status) -> Counts {
        let copied: HashMap<String, Lsn> = status
            .tables()
            .into_iter()
            .filter_map(|(schema, table, at)| Some((format!("{schema}.{table}"), at?)))
            .collect();
        let applied = status.applied();
        let counts = self.per_table(|event| {
            if event.end > applied {
                return None;
            }
            // Through the root: a leaf's rows are the root's; its TRUNCATE is not.
            let mut table = &event.table;
            while !copied.contains_key(table) && event.kind != Kind::Truncate {
                table = self.parents.get(table)?;
            }
            // The copied-at LSN lies between two records: a commit at or after it ends after it.
            (event.end > *copied.get(table)?).then(|| table.clone())
        });
        counts.into_values().fold(Counts::default(), Counts::plus)
    }

    /// Counts events under the name that `place` gives them; `None` leaves one out.
    fn per_table(&self, place: impl Fn(&Event) -> Option<String>) -> BTreeMap<String, Counts> {
        let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
        for event in &self.events {
            if let Some(table) = place(event) {
                counts.entry(table).or_default().add(event.kind);
            }
        }
        counts
    }
}

impl Counts {
    fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Insert => self.inserted += 1,
            Kind::Update => self.updated += 1,
            Kind::Delete => self.deleted += 1,
            Kind::Truncate => self.truncated += 1,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            inserted: self.inserted + other.inserted,
            updated: self.updated + other.updated,
            deleted: self.deleted + other.deleted,
            truncated: self.truncated + other.truncated,
        }
    }
}

/// `"a b".t: INSERT: …` or `a.t, b.t: TRUNCATE: …`, the names quoted where PostgreSQL quotes them.
fn parse(change: &str) -> Vec<(String, Kind)> {
    let mut rest = change;
    let mut tables = Vec::new();
    loop {
        let (schema, after) = identifier(rest);
        let (table, after) = identifier(after.strip_prefix('.').expect("a qualified name"));
        tables.push(format!("{schema}.{table}"));
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => {
                rest = after.strip_prefix(": ").expect("a colon after the table");
                break;
            }
        }
    }
    let kind = match rest.split(':').next() {
        Some("INSERT") => Kind::Insert,
        Some("UPDATE") => Kind::Update,
        Some("DELETE") => Kind::Delete,
        Some("TRUNCATE") => Kind::Truncate,
        _ => panic!("unknown change {change:?}"),
    };
    tables.into_iter().map(|table| (table, kind)).collect()
}

/// An identifier as quote_identifier prints it, and what follows.
fn identifier(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', ':', ',']).expect("something follows an identifier");
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').expect("a closing quote");
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (name, rest),
        }
    }
}
