//! One fault a second, drawn at random, beside random load; at the end everything is checked.
//!
//! `scripts/test random-faults --seed N --minutes M` repeats or prolongs it.

use std::time::{Duration, Instant};

use super::fault::Fault;
use super::rig::{DB, Rig};
use crate::support::load::Rng;
use crate::support::oracle::{self, Events};
use crate::support::{canary, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_one_a_second_beside_random_load() {
    let time = match options::minutes() {
        Some(minutes) => Duration::from_secs_f64(minutes * 60.0),
        None if options::full() => Duration::from_secs(600),
        None => Duration::from_secs(25),
    };
    for seed in options::seeds(1) {
        survive(seed, time).await;
    }
}

async fn survive(seed: u64, time: Duration) {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, &mut rng).await;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_secs(1);
        let fault = Fault::draw(&mut rng);
        rig.story.note(fault);
        fault.strike(&mut rig, &mut rng).await;
        tokio::time::sleep_until(next.into()).await;
        rig.look_after().await;
    }
    let mut running = rig.heal().await;
    let Rig { source, target, load, workload, watch, mut story, .. } = rig;
    running.wait_for_step("live").await;
    load.wait_committed(load.committed() + 20).await;
    workload.wait_for(20).await;
    load.stop().await;
    workload.stop().await;
    let marker = oracle::marker(&source, DB).await;
    story.marker = marker.to_string();
    let status = running.wait_applied(marker).await;
    story.slot = status.0["slot_lsn"].as_str().unwrap_or("?").to_owned();
    oracle::expect_same(&source.uri(DB), &target.uri(DB)).await;
    Events::of_slot(&source, DB).await.expect_applied(&status).await;
    let odd = (status.count("missing"), status.count("overwritten"));
    assert_eq!(odd, (0, 0), "missing and overwritten: {}", running.stderr());
    if let Some(watch) = watch {
        watch.expect_held().await;
    }
    running.sigterm();
    let run = (*running).clone();
    running.wait_exit().await.expect_code(143);
    let within = format!(
        "SELECT bool_and(confirmed_flush_lsn <= '{}') FROM pg_replication_slots WHERE slot_name = 'walferry'",
        run.status().await.applied()
    );
    assert!(source.value::<bool>("postgres", &within).await, "the slot is ahead of what is applied");
    oracle::expect_idle(&source).await;
    oracle::expect_idle(&target).await;
    canary::expect_none_recorded(&target, DB).await;
    eprintln!("seed {seed}: {} faults in {:.0} s", story.faults(), time.as_secs_f64());
}
