//! What the end-to-end tests stand on: real servers, faults, the program under test, and the oracle.
//!
//! ```text
//!   load ──► Postgres (source) ──► Proxy ──► Walferry ──► Proxy ──► Postgres (target)
//!                 └────────────────── oracle compares ──────────────────┘
//! ```
//!
//! Everything here panics with a full message instead of returning errors: a test has no use for them.
//! Everything lives in one folder per test process and is gone when the process is, however it ends.

pub mod authority;
pub mod canary;
pub mod connect;
pub mod feed;
pub mod http;
pub mod kafka;
pub mod load;
pub mod memory;
pub mod network;
pub mod options;
pub mod oracle;
pub mod postgres;
pub mod programs;
pub mod proxy;
pub mod scratch;
pub mod walferry;

pub use connect::Connect;
pub use feed::{Feed, Way};
pub use kafka::Kafka;
pub use load::Load;
pub use network::{Cable, Network};
pub use postgres::Postgres;
pub use proxy::{Direction, Proxy};
pub use walferry::Walferry;
