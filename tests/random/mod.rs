//! Random table shapes, a random workload, random settings, and a kill at a random point, several times; then source and target are
//! equal (C1) and every event was applied exactly once (C2).
//!
//! `scripts/test --seeds 100 random` runs more of them, `scripts/test --seed N random` repeats one.

mod fault;
mod faults;
mod kills;
mod rig;
mod shapes;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::load::Rng;
use crate::support::{Feed, Way, options, programs};
use workload::{Table, Workload};

/// Says how to repeat what failed.
struct Repeat(u64, String, &'static str);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- seed {}: {}\n--- repeat it with: scripts/test --seed {} {}",
                self.0, self.1, self.0, self.2
            );
        }
    }
}

/// Each ends the process when it is passed for the n-th time.
const FAILPOINTS: [(&str, u64); 8] = [
    ("publication-made", 1),
    ("slot-intended", 1),
    ("slot-created", 1),
    ("slot-recorded", 1),
    ("schema-restored", 1),
    ("apply-before-commit", 40),
    ("apply-after-commit", 40),
    ("apply-inside-transaction", 3),
];

enum Kill {
    After(Duration),
    At(&'static str, String),
}

fn kill(rng: &mut Rng) -> Kill {
    if rng.percent(50) {
        return Kill::After(Duration::from_millis(50 + rng.below(3000)));
    }
    let &(name, most) = rng.pick(&FAILPOINTS);
    let before = rng.below(most);
    Kill::At(name, if before == 0 { "panic".to_owned() } else { format!("{before}*off->panic") })
}

fn majors(rng: &mut Rng) -> (u32, u32) {
    let all = [(15, 15), (15, 15), (13, 17), (18, 15), (14, 16), (17, 18)];
    let installed = programs::majors();
    let pair = *rng.pick(&all);
    if installed.contains(&pair.0) && installed.contains(&pair.1) { pair } else { (15, 15) }
}

fn on(rng: &mut Rng) -> &'static str {
    if rng.percent(70) { "on" } else { "off" }
}

/// Ways to apply.
fn settings(rng: &mut Rng) -> Vec<String> {
    vec![
        format!("apply.batch_bytes={}", rng.pick::<&str>(&["64kB", "256kB", "16MB"])),
        format!("apply.copy_threshold={}", rng.pick::<&str>(&["0", "1", "5", "64"])),
        format!("apply.set_threshold={}", rng.pick::<&str>(&["0", "1", "3", "8"])),
        format!("apply.coalesce={}", if rng.percent(75) { "on" } else { "off" }),
        format!("apply.binary={}", on(rng)),
        format!("apply.sort={}", on(rng)),
        format!("apply.ahead={}", on(rng)),
        format!("apply.flush_apart={}", on(rng)),
        format!("apply.gin_apart={}", on(rng)),
        format!("stream.gather={}", on(rng)),
        format!("apply.synchronous_commit={}", if rng.percent(25) { "on" } else { "off" }),
    ]
}

async fn survive(seed: u64) {
    let mut rng = Rng::new(seed);
    let (source, target) = majors(&mut rng);
    let count = 10 + rng.below(8) as usize;
    let tables = Table::draw(&mut rng, count);
    let mut schema = shapes::PRELUDE.to_owned();
    for table in &tables {
        schema.push_str(&format!("{};\n", table.ddl()));
    }
    let settings = settings(&mut rng);
    let kills: Vec<Kill> = (0..1 + rng.below(3)).map(|_| kill(&mut rng)).collect();
    let shapes: Vec<String> = tables.iter().map(Table::describe).collect();
    let _repeat = Repeat(
        seed,
        format!("{source} to {target}; {}; {}", settings.join(" "), shapes.join(", ")),
        "any_schema",
    );

    let mut builder =
        Feed::of(&schema).majors(source, target).ways(&[Way::Default]).arg("--keyless").arg("inserts");
    for setting in &settings {
        builder = builder.set(setting);
    }
    let mut feed = builder.prepare().await;
    let client = feed.source.connect(&feed.database).await;
    for table in &tables {
        for _ in 0..rng.below(40) {
            workload::run(&client, &table.insert(&mut rng)).await;
        }
    }
    let workload = Workload::start(client, Arc::new(tables), seed, true);
    for kill in kills {
        match kill {
            Kill::After(time) => {
                feed.restart().await;
                tokio::time::sleep(time).await;
            }
            Kill::At(point, action) => {
                feed.restart_with(point, &action).await;
                feed.wait_ended(Duration::from_secs(6)).await;
            }
        }
        feed.kill().await;
    }
    feed.restart().await;
    workload.wait_for(60).await;
    feed.wait_live().await;
    workload.wait_for(60).await;
    workload.stop().await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_schema_any_workload_killed_anywhere_comes_out_the_same() {
    let beside = Arc::new(Semaphore::new(3));
    let mut runs = JoinSet::new();
    for seed in options::seeds(10) {
        let beside = Arc::clone(&beside);
        runs.spawn(async move {
            let _one = beside.acquire().await;
            survive(seed).await;
        });
    }
    let mut failed = 0;
    while let Some(run) = runs.join_next().await {
        failed += u64::from(run.is_err());
    }
    assert_eq!(failed, 0, "seeds failed; each says above how to repeat it");
}
