//! cargo run --example emit -- "postgresql://…"
//!
//! Each order and its event are one transaction.

use serde_json::json;
use tokio_postgres::{Client, Error, NoTls, Transaction};

/// With a logical message: nothing is stored but WAL.
async fn emit_message(tx: &Transaction<'_>, order: i64, payload: &serde_json::Value) -> Result<(), Error> {
    let sql = "SELECT walferry.emit('Order', $1, 'OrderPlaced', $2)";
    tx.execute(sql, &[&order.to_string(), payload]).await.map(|_| ())
}

/// With a row in the outbox table.
async fn emit_row(tx: &Transaction<'_>, order: i64, payload: &serde_json::Value) -> Result<(), Error> {
    let sql = "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
               VALUES (gen_random_uuid(), 'Order', $1, 'OrderPlaced', $2)";
    tx.execute(sql, &[&order.to_string(), payload]).await.map(|_| ())
}

async fn insert_order(tx: &Transaction<'_>, quantity: i32) -> Result<(i64, serde_json::Value), Error> {
    let sql = "INSERT INTO orders (customer, product, quantity) VALUES ('rust', 'chair', $1) RETURNING id";
    let id: i64 = tx.query_one(sql, &[&quantity]).await?.get(0);
    Ok((id, json!({"order_id": id, "customer": "rust", "product": "chair", "quantity": quantity})))
}

/// The ids of the orders that were committed.
pub async fn place_orders(client: &mut Client) -> Result<[i64; 2], Error> {
    let tx = client.transaction().await?;
    let (first, payload) = insert_order(&tx, 1).await?;
    emit_message(&tx, first, &payload).await?;
    tx.commit().await?;

    let tx = client.transaction().await?;
    let (second, payload) = insert_order(&tx, 2).await?;
    emit_row(&tx, second, &payload).await?;
    tx.commit().await?;

    // Rolled back: neither the order nor its events exist.
    let tx = client.transaction().await?;
    let (third, payload) = insert_order(&tx, 3).await?;
    emit_message(&tx, third, &payload).await?;
    emit_row(&tx, third, &payload).await?;
    tx.rollback().await?;

    Ok([first, second])
}

#[allow(dead_code, reason = "the test that includes this file has a main of its own")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = std::env::args().nth(1).ok_or("usage: emit DATABASE")?;
    let (mut client, connection) = tokio_postgres::connect(&database, NoTls).await?;
    tokio::spawn(connection);
    for order in place_orders(&mut client).await? {
        println!("{order}");
    }
    Ok(())
}
