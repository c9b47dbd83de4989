//! Outbox events: from a commit to their topics, or to the dead letters, and nowhere else.

mod cleanup;
mod delivery;
mod golden;
mod init;
mod letters;
pub mod rig;
mod routes;
