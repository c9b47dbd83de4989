//! The replication protocol over one connection.
//!
//! ```text
//! ReplicationConnection ── create_slot, drop_slot, identify_system
//!        │ start (consumes it)
//!        ▼
//! ReplicationStream ── recv: XLogData, Keepalive   ◄── server
//!                   ── standby_status_update ──────►
//! ```
//!
//! No hidden task: the caller reads, and the caller says what is confirmed. The snapshot that `create_slot` exports lives until the next
//! command on its connection.
//!
//! <https://www.postgresql.org/docs/current/protocol-replication.html>

mod connection;
mod message;
mod slot;
mod streaming;
mod timeline;

pub use connection::{ReplicationConnection, SystemIdentity};
pub use message::{ReplicationMessage, XLogDataBody};
pub use slot::{CreatedSlot, SlotSnapshot};
pub use streaming::{ReplicationStream, StandbyStatus, StartOptions};
pub use timeline::{Descent, Fork, descent};
