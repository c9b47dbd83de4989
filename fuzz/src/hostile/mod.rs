//! One function a target.

mod configuration;
mod decoders;
mod server;

pub use configuration::config;
pub use decoders::{envelope, foreign, pgoutput, rows};
pub use server::{copy, replication, wire};
