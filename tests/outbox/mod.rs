//! Outbox events: from a commit to their topics, or to the dead letters, and nowhere else.

mod rig;
mod routes;
