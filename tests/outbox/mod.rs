//! Outbox events: from a commit to their topics, or to the dead letters, and nowhere else.

pub mod rig;
mod routes;
