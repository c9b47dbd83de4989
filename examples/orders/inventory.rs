//! The inventory service: reserves what was ordered, exactly once.

use inbox::{Failure, Handler, Message, Transaction};
use serde::Deserialize;

/// What other services say about orders. Types that are not named here are passed over.
#[derive(Deserialize, Debug)]
pub enum OrderEvent {
    OrderPlaced { order_id: i64, product: String, quantity: i32 },
}

/// Reserves stock for each order that was placed.
pub struct Inventory;

impl Handler for Inventory {
    type Event = OrderEvent;

    async fn handle(&self, tx: &Transaction<'_>, event: OrderEvent, _: &Message) -> Result<(), Failure> {
        let OrderEvent::OrderPlaced { order_id, product, quantity } = event;
        let take = "UPDATE stock SET free = free - $2 WHERE product = $1 AND free >= $2";
        if tx.execute(take, &[&product, &quantity]).await? == 0 {
            return Err(Failure::poison(format!("order {order_id}: not enough of it in stock")));
        }
        let reserve = "INSERT INTO reservations (order_id, product, quantity) VALUES ($1, $2, $3)";
        tx.execute(reserve, &[&order_id, &product, &quantity]).await?;
        Ok(())
    }
}
