//! The leader gathers where everybody stands, and hands the tables out anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kafka::Position;
use pg::{Lsn, QualifiedName, Result};
use pipeline::envelope::Topics;
use reader::catalog::Pattern;
use tokio_postgres::Client;
use writer::control::{Assigned, Carrier, Counters, Progress, Run, RunTable, Shard};

use super::Watcher;
use super::watcher::{living, one_writer};
use crate::run::context::Context;
use crate::run::owner::Owner;

/// What is the leader's now.
pub struct Own {
    /// As they are recorded, from where on they are the leader's to feed.
    pub tables: Vec<RunTable>,
    /// Fed by others.
    pub elsewhere: HashSet<QualifiedName>,
    pub watcher: Watcher,
}

/// Where one process stands.
struct Standing {
    end_lsn: Lsn,
    position: Position,
}

/// Gathers, and shares if this start does and not everything is to be `gathered` here. Nobody streams here meanwhile.
pub async fn hand_over(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    tables: Vec<RunTable>,
    gathered: bool,
) -> Result<Own> {
    let client = owner.session();
    if context.share {
        Shard::ensure(client).await?;
    } else if !Shard::exist(client).await? || Assigned::all(client, &run.name).await?.is_empty() {
        let watcher = Watcher::new(true, BTreeSet::new());
        return Ok(Own { tables, elsewhere: HashSet::new(), watcher });
    }
    let solo = gathered || !context.share || one_writer(client, &run.name).await?;
    let shards = Shard::all(client, &run.name).await?;
    let living = living(client, &run.name).await?;
    let members: BTreeSet<String> = if solo { BTreeSet::new() } else { living.clone() };
    // From here on nobody else commits anything of this run.
    let mut standing: HashMap<String, Standing> = HashMap::new();
    let mut counted = Counters::default();
    for shard in &shards {
        if let Some((progress, carrier)) = Shard::fence(client, &run.name, &shard.id).await? {
            counted.add(&progress.counters);
            let position = Position::parse(carrier.as_deref())?;
            standing.insert(shard.id.clone(), Standing { end_lsn: progress.end_lsn, position });
        }
    }
    fail::fail_point!("shard-gathered");
    counted.transactions = 0;
    let Some(mut progress) = Progress::read(client, &run.name).await? else {
        return Ok(Own { tables, elsewhere: HashSet::new(), watcher: Watcher::new(true, BTreeSet::new()) });
    };
    let carrier = Progress::carrier(client, &run.name).await?;
    standing.insert(
        String::new(),
        Standing { end_lsn: progress.end_lsn, position: Position::parse(carrier.as_deref())? },
    );
    let before: HashMap<QualifiedName, Assigned> = Assigned::all(client, &run.name)
        .await?
        .into_iter()
        .map(|assigned| (assigned.name.clone(), assigned))
        .collect();
    let owners = share_out(context, client, run, &tables, &shards, &members).await?;
    let mut handed = Vec::new();
    for (table, new) in tables.iter().zip(&owners) {
        let Some(copied_at) = table.copied_at else { continue };
        let was = before.get(&table.name);
        let stood = was.and_then(|was| standing.get(&was.shard)).or_else(|| standing.get(""));
        // A process whose rows are gone never committed any.
        let from = [Some(copied_at), was.map(|was| was.from), stood.map(|stood| stood.end_lsn)];
        let from = from.into_iter().flatten().max().unwrap_or(copied_at);
        handed.push(Assigned { name: table.name.clone(), shard: new.clone(), from });
    }
    let position = together(context, &before, &standing).to_text()?;
    let generation = shards.iter().map(|shard| shard.generation).max().unwrap_or(0) + 1;
    // Where nobody has a table of it, a process is as far as the furthest.
    let furthest = standing.values().map(|stood| stood.end_lsn).max().unwrap_or(progress.end_lsn);
    let begins = |shard: &str| {
        handed.iter().filter(|table| table.shard == shard).map(|table| table.from).min().unwrap_or(furthest)
    };
    progress.seq += 1;
    progress.epoch = owner.epoch;
    progress.end_lsn = begins("").min(furthest);
    progress.counters.add(&counted);
    let tx = owner.client().transaction().await?;
    Assigned::replace(&tx, &run.name, &handed).await?;
    for shard in &shards {
        // Counted above, whoever lives: its rows begin anew.
        tx.execute("DELETE FROM walferry.progress WHERE run = $1", &[&Shard::key(&run.name, &shard.id)])
            .await?;
        if !living.contains(&shard.id) {
            Shard::forget(&tx, &run.name, &shard.id).await?;
            continue;
        }
        Shard::set_generation(&tx, &run.name, &shard.id, generation).await?;
        // One without a table stands nowhere: a position that it never moves would be everybody's at the next hand-over.
        if members.contains(&shard.id) && handed.iter().any(|table| table.shard == shard.id) {
            Shard::begin(&tx, &run.name, &shard.id, generation, begins(&shard.id), &position).await?;
        }
    }
    tx.batch_execute(&progress.insert_sql(&run.name, Carrier::At(Some(&position)))).await?;
    tx.commit().await?;
    fail::fail_point!("shard-handed-over");
    if context.share && !gathered {
        let mine = handed.iter().filter(|table| table.shard.is_empty()).count();
        context.reporter.note(format!(
            "shares {} table(s) with {} process(es), {mine} of them here",
            handed.len(),
            members.len()
        ));
    }
    let from: HashMap<&QualifiedName, &Assigned> = handed.iter().map(|table| (&table.name, table)).collect();
    let (mut own, mut elsewhere) = (Vec::new(), HashSet::new());
    for mut table in tables {
        match from.get(&table.name) {
            Some(assigned) if !assigned.shard.is_empty() => {
                elsewhere.insert(table.name);
            }
            Some(assigned) => {
                table.copied_at = Some(assigned.from);
                own.push(table);
            }
            None => own.push(table),
        }
    }
    Ok(Own { tables: own, elsewhere, watcher: Watcher::new(solo, members) })
}

/// The new owner of each table: who asked for it by name, then whoever has least to do by its size.
async fn share_out(
    context: &Context,
    client: &Client,
    run: &Run,
    tables: &[RunTable],
    shards: &[Shard],
    members: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let mut owners = vec![String::new(); tables.len()];
    let mut load: BTreeMap<String, i64> = BTreeMap::from([(String::new(), 0)]);
    let mut pinned = vec![false; tables.len()];
    for pattern in &context.pinned {
        let names = matching(client, &run.name, pattern).await?;
        for (at, table) in tables.iter().enumerate() {
            pinned[at] |= names.contains(&table.name);
        }
    }
    for shard in shards.iter().filter(|shard| members.contains(&shard.id)) {
        if shard.patterns.is_empty() {
            load.insert(shard.id.clone(), 0);
        }
        for pattern in &shard.patterns {
            let names = matching(client, &run.name, pattern).await?;
            for (at, table) in tables.iter().enumerate() {
                if !pinned[at] && names.contains(&table.name) {
                    pinned[at] = true;
                    owners[at].clone_from(&shard.id);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..tables.len()).filter(|at| !pinned[*at]).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(tables[*at].bytes), tables[*at].name.clone()));
    for at in order {
        // Tables that have left are the leader's: there is an end to them.
        if tables[at].left_at.is_some() {
            continue;
        }
        let least =
            load.iter().min_by_key(|(_, bytes)| **bytes).map(|(id, _)| id.clone()).unwrap_or_default();
        *load.entry(least.clone()).or_default() += tables[at].bytes.max(1);
        owners[at] = least;
    }
    Ok(owners)
}

pub async fn matching(client: &Client, run: &str, pattern: &str) -> Result<HashSet<QualifiedName>> {
    let Pattern { schema, name } = Pattern::table(pattern)?;
    let rows = client
        .query(
            "SELECT schema, name FROM walferry.tables WHERE run = $1 AND left_at_lsn IS NULL AND name ~ $2
                AND ($3::pg_catalog.text IS NULL OR schema ~ $3)",
            &[&run, &name, &schema],
        )
        .await?;
    Ok(rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Offsets that are good for everybody: of a table's topic its last owner's, of the transactions the smallest.
fn together(
    context: &Context,
    before: &HashMap<QualifiedName, Assigned>,
    standing: &HashMap<String, Standing>,
) -> Position {
    let topics = Topics::new(context.settings.kafka_prefix());
    // The leader's, for what is nobody else's.
    let mut all = standing.get("").map(|stood| stood.position.clone()).unwrap_or_default();
    for name in [&topics.transaction, &topics.heartbeat] {
        let smallest = standing.values().map(|stood| stood.position.offset(name, 0)).min().unwrap_or(0);
        all.offsets.insert(name.clone(), vec![smallest]);
    }
    for (name, assigned) in before {
        let topic = topics.table(name);
        let offsets = standing.get(&assigned.shard).and_then(|stood| stood.position.offsets.get(&topic));
        match offsets {
            Some(offsets) => all.offsets.insert(topic, offsets.clone()),
            // Never read there: from the first one.
            None if standing.contains_key(&assigned.shard) => all.offsets.remove(&topic),
            None => None,
        };
    }
    all
}
