//! What both sides of walferry need of PostgreSQL: connections, TLS, identifiers, LSNs, error classes.

pub mod error;
pub mod ident;
pub mod lsn;
pub mod params;
pub mod session;
pub mod sqlstate;
mod tls;
pub mod version;
pub mod wire;

pub use error::{Class, Error, Result};
pub use ident::{QualifiedName, quote_ident, quote_literal};
pub use lsn::Lsn;
pub use params::Params;
pub use session::{Purpose, Session};
pub use version::ServerVersion;
pub use wire::Wire;
