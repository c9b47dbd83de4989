//! Row 10: one run, killed at random again and again, from its first second to its last.

use std::time::{Duration, Instant};

use crate::faults::{DB, Scene};
use crate::support::load::Rng;
use crate::support::options;
use crate::support::oracle::{Events, Invariant};

#[tokio::test]
async fn row_10_killed_at_random_again_and_again() {
    let kills = if options::full() { 200 } else { 16 };
    for seed in options::seeds(1) {
        let _repeat = super::Repeat(seed, format!("{kills} kills of one run"), "row_10");
        let mut rng = Rng::new(seed);
        let scene = Scene::new().await;
        let events = Events::record(&scene.source, DB).await;
        let load = scene.load();
        let mut watch = None;
        let began = Instant::now();
        for kill in 0..kills {
            let mut running = scene.run().spawn();
            // Early ones meet the copy, late ones the stream.
            let least = if kill < kills / 3 { 20 } else { 400 };
            tokio::time::sleep(Duration::from_millis(least + rng.below(1500))).await;
            assert!(running.is_running(), "it ended by itself at kill {kill}: {}", running.stderr());
            if watch.is_none() && running.try_status().await.is_some_and(|status| status.reached("live")) {
                watch = Some(Invariant::watch(&scene.target.uri(DB)));
            }
            running.kill9().await;
        }
        eprintln!("seed {seed}: {kills} kills in {:.0} s", began.elapsed().as_secs_f64());
        scene.goes_on(load, &events).await;
        if let Some(watch) = watch {
            watch.expect_held().await;
        }
    }
}
