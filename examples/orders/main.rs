//! Two services, each with a database of its own, that know nothing of each other but an event.
//!
//! ```text
//! orders place ─► order database ─(outbox)─► walferry outbox run ─► Kafka ─► orders reserve ─► inventory database
//! ```
//!
//! ```sh
//! psql ORDERS -f examples/orders/orders.sql       # and walferry outbox init --layout debezium, which makes table outbox and walferry.emit
//! psql INVENTORY -f examples/orders/inventory.sql -c "INSERT INTO stock VALUES ('chair', 1000)"
//! cargo run --example orders -- reserve INVENTORY localhost:9092 outbox.event.Order
//! cargo run --example orders -- place ORDERS chair 100 table
//! ```

mod inventory;
mod order_service;

use std::error::Error;
use std::process::ExitCode;

use inbox::{Options, Worker};
use inventory::Inventory;
use order_service::{Emit, NewOrder, place};
use tokio_postgres::{Config, NoTls};
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: orders place DATABASE PRODUCT COUNT table|message
       orders reserve DATABASE BROKERS TOPIC…      until SIGINT or SIGTERM";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["place", database, product, count, "table"] => orders(database, product, count, Emit::Table).await,
        ["place", database, product, count, "message"] => {
            orders(database, product, count, Emit::Message).await
        }
        ["reserve", database, brokers, topics @ ..] if !topics.is_empty() => {
            reserve(database, brokers, topics).await
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let causes = std::iter::successors(error.source(), |error| (*error).source());
            causes.for_each(|cause| eprintln!("  {cause}"));
            ExitCode::FAILURE
        }
    }
}

/// Places orders for one chair, two chairs, three chairs, one chair, …
async fn orders(database: &str, product: &str, count: &str, emit: Emit) -> Result<(), Box<dyn Error>> {
    let (mut client, connection) = config(database)?.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    for number in 0..count.parse::<i32>()? {
        let customer = format!("customer {}", number % 7);
        let order = NewOrder { customer: &customer, product, quantity: 1 + number % 3 };
        place(&mut client, &order, emit).await?;
    }
    drop(client);
    connection.await??;
    println!("{count} orders placed");
    Ok(())
}

async fn reserve(database: &str, brokers: &str, topics: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut options = Options::new(brokers, "inventory", topics.iter().copied());
    // A worker that is killed is missed, and its partitions taken over, after this.
    options.kafka = vec![("session.timeout.ms".to_owned(), "6000".to_owned())];
    let worker = Worker::new(options, inbox::plain(config(database)?));
    let stats = worker.stats();
    let stop = CancellationToken::new();
    tokio::spawn(until_signal(stop.clone()));
    worker.run(&Inventory, stop).await?;
    println!("{} orders reserved, {} events had been seen before", stats.handled(), stats.duplicates());
    Ok(())
}

/// A password that is not in the URI is in PGPASSWORD, as with psql, or in the file that PGPASSWORD_FILE names.
fn config(database: &str) -> Result<Config, Box<dyn Error>> {
    let mut config: Config = database.parse()?;
    if config.get_password().is_none() {
        if let Ok(password) = std::env::var("PGPASSWORD") {
            config.password(password);
        } else if let Ok(file) = std::env::var("PGPASSWORD_FILE") {
            config.password(std::fs::read_to_string(file)?.trim_end());
        }
    }
    Ok(config)
}

async fn until_signal(stop: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    stop.cancel();
    Ok(())
}
