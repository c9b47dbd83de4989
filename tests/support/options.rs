//! What `scripts/test` was asked for.

use std::time::Duration;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// `--all`: the full-size variants of tests that are scaled down otherwise.
pub fn full() -> bool {
    std::env::var_os("WALFERRY_TEST_FULL").is_some()
}

/// How long to wait for what has to come: longer where millions of rows of another test may be on their way through the same servers.
pub fn patience() -> Duration {
    Duration::from_secs(if full() { 1200 } else { 120 })
}

/// `--minutes`: how long the driver of random faults works.
pub fn minutes() -> Option<f64> {
    let text = std::env::var("WALFERRY_TEST_MINUTES").ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("WALFERRY_TEST_MINUTES is not a number: {text}")))
}

/// The seeds for a randomised test: the one of `--seed`, the first `--seeds`, or the first `default`.
pub fn seeds(default: u64) -> Vec<u64> {
    match number("WALFERRY_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("WALFERRY_TEST_SEEDS").unwrap_or(default)).collect(),
    }
}
