//! The application of `scripts/demo`: a few clients work on the device inventory of `demo/schema.sql` until
//! they are told to stop (SIGTERM), and follow the database when it moves.
//!
//! Flows in: two connection strings, the old and the new primary. Flows out: nothing but counts, in the file
//! `--counts`, rewritten ten times a second as lines `name=number`.
//!
//! Invariant: every transaction that commits leaves one row `commit` in `audit_log`, and `committed` counts
//! those whose COMMIT was acknowledged. So whoever counts the rows knows whether one was lost or done twice.
//!
//! With `--hold` a client that has found the new primary writable (it rolls that first write back) waits for
//! SIGUSR1 before it writes for good, so that both databases can be compared in between.

mod client;
mod counts;
mod transactions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use counts::Counts;

#[derive(Parser)]
struct Options {
    /// Where the application works first
    old_primary: String,
    /// Where it goes once writes are refused with SQLSTATE 25006
    new_primary: String,
    /// File for the counts
    #[arg(long)]
    counts: PathBuf,
    #[arg(long, default_value_t = 4)]
    clients: u32,
    /// Transactions started per second, all clients together
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Wait for SIGUSR1 before the first lasting write on the new primary
    #[arg(long)]
    hold: bool,
}

/// What the clients are told from outside.
#[derive(Clone, Copy)]
struct Orders {
    stop: bool,
    hold: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let counts = Arc::new(Counts::default());
    let (orders, received) = watch::channel(Orders { stop: false, hold: options.hold });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut release = signal(SignalKind::user_defined1())?;

    let primaries = [parse(&options.old_primary)?, parse(&options.new_primary)?];
    let interval = Duration::from_secs(1) * options.clients / options.rate.max(1);
    let mut clients = tokio::task::JoinSet::new();
    for number in 1..=options.clients {
        let client =
            client::Client::new(number, primaries.clone(), interval, counts.clone(), received.clone());
        clients.spawn(client.run());
    }

    let mut write_counts = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = terminate.recv() => orders.send_modify(|orders| *orders = Orders { stop: true, hold: false }),
            _ = release.recv() => orders.send_modify(|orders| orders.hold = false),
            _ = write_counts.tick() => counts.write(&options.counts)?,
            ended = clients.join_next() => match ended {
                Some(result) => result??,
                None => break,
            },
        }
    }
    counts.write(&options.counts)?;
    Ok(())
}

/// The password comes from PGPASSWORD, as with psql, so that it stands in no list of processes.
fn parse(uri: &str) -> Result<tokio_postgres::Config, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = uri.parse()?;
    if let Ok(password) = std::env::var("PGPASSWORD") {
        config.password(password);
    }
    config.application_name("inventory");
    Ok(config)
}
