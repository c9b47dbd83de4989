//! Outbox events: from a commit to their topics, or to the dead letters, and nowhere else.

mod beside;
mod check;
mod cleanup;
mod delivery;
mod examples;
mod golden;
mod init;
mod letters;
mod limits;
mod names;
mod remove;
pub mod rig;
mod routes;
mod scene;
mod shared;
mod updates;
