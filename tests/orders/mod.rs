//! examples/orders: two services, and what lies between them.

#[path = "../../examples/orders/inventory.rs"]
pub mod inventory;
