//! The order service: an order and the event that tells of it are one transaction.

use tokio_postgres::{Client, Error, Transaction};

/// How the event is emitted. Both are in the caller's transaction: rolled back, neither exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emit {
    /// A row in the outbox table (Debezium's layout).
    Table,
    /// A logical message in the WAL: no table, nothing to clean up.
    Message,
}

pub struct NewOrder<'a> {
    pub customer: &'a str,
    pub product: &'a str,
    pub quantity: i32,
}

/// Places an order; returns its id.
///
/// # Errors
/// The database's.
pub async fn place(client: &mut Client, order: &NewOrder<'_>, emit: Emit) -> Result<i64, Error> {
    let tx = client.transaction().await?;
    let id = insert(&tx, order, emit).await?;
    tx.commit().await?;
    Ok(id)
}

/// The statements of [`place`], for a transaction that does more.
///
/// # Errors
/// The database's.
pub async fn insert(tx: &Transaction<'_>, order: &NewOrder<'_>, emit: Emit) -> Result<i64, Error> {
    let sql = "INSERT INTO orders (customer, product, quantity) VALUES ($1, $2, $3) RETURNING id";
    let id: i64 = tx.query_one(sql, &[&order.customer, &order.product, &order.quantity]).await?.get(0);
    let payload = serde_json::json!({
        "order_id": id, "customer": order.customer, "product": order.product, "quantity": order.quantity,
    });
    let emitted = match emit {
        Emit::Table => {
            "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
             VALUES (gen_random_uuid(), 'Order', $1, 'OrderPlaced', $2)"
        }
        Emit::Message => "SELECT walferry.emit('Order', $1, 'OrderPlaced', $2)",
    };
    tx.execute(emitted, &[&id.to_string(), &payload]).await?;
    Ok(id)
}
