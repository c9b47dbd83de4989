//! The replication slot: made once, looked at on every start, never advanced by anything but durable progress.
//!
//! ```text
//! look (nothing of that name) ─► the caller records the intention ─► create ─► the caller records the LSN ─► … ─► drop
//! ```
//!
//! What flows in: a name. What flows out: the consistent point and a snapshot of the same instant. Invariant: a slot that no record
//! mentions is somebody else's, so it is neither streamed from nor dropped.
//!
//! - `CREATE_REPLICATION_SLOT`: <https://www.postgresql.org/docs/current/protocol-replication.html>
//! - `pg_replication_slots`: <https://www.postgresql.org/docs/current/view-pg-replication-slots.html>

mod blocker;
mod create;
mod state;

pub use blocker::{Blocker, blockers};
pub use create::{CreateOptions, ExportedSlot, SLOT_BLOCKED, SLOT_EXISTS, create, create_temporary};
pub use state::{SlotState, drop, look};
