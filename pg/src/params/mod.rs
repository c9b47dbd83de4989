//! Connection strings: whatever libpq takes, read the way libpq reads it.
//!
//! In: a URI or keyword/value string, a service file, `PG*` environment variables, `.pgpass`, libpq's defaults, in this order.
//! Out: [`Params`], with everything resolved but the network. Secrets stay in [`secrecy::SecretString`]; no message and no `Debug`
//! of this module shows a value that may be one.
//!
//! Traps: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>,
//! <https://www.postgresql.org/docs/current/libpq-pgservice.html>, <https://www.postgresql.org/docs/current/libpq-pgpass.html>

mod auth;
mod child;
mod environment;
mod host;
mod keyvalue;
mod keyword;
mod passfile;
mod resolve;
mod service;
#[cfg(test)]
mod tests;
mod tls;
mod uri;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::Result;

pub use auth::{AuthMethod, ChannelBinding, RequireAuth};
pub use environment::Environment;
pub(crate) use environment::accounts;
pub use host::{Endpoint, Host, TargetSessionAttrs};
pub use tls::{CertMode, RootCert, SslMode, SslNegotiation, TlsParams, TlsVersion};

/// A resolved connection string.
#[derive(Clone)]
pub struct Params {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) dbname: String,
    pub(crate) password: Option<SecretString>,
    /// Read at each connection: what it holds may be rotated under a running process.
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) options: Option<String>,
    pub(crate) application_name: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) tcp_user_timeout: Option<Duration>,
    pub(crate) target_session_attrs: TargetSessionAttrs,
    pub(crate) load_balance: bool,
    pub(crate) require_auth: RequireAuth,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) require_peer: Option<String>,
    pub(crate) tls: TlsParams,
}

/// How a dead peer is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
}

impl Params {
    /// Reads `text` with this process's environment and files.
    ///
    /// # Errors
    /// Class `Usage`: unknown keyword, malformed value, unreadable service or a keyword that walferry cannot honour.
    pub fn parse(text: &str) -> Result<Params> {
        Self::parse_with(text, &Environment::process())
    }

    /// Reads `text` with a given environment.
    pub fn parse_with(text: &str, environment: &Environment) -> Result<Params> {
        resolve::resolve(text, environment)
    }

    /// `user@host:port/dbname`, for messages; never a password.
    #[must_use]
    pub fn display(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        format!("{}@{}/{}", self.user, hosts.join(","), self.dbname)
    }

    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The name given in the connection string (or `PGAPPNAME`): it is used instead of ours.
    #[must_use]
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// `ours`, or the name of the connection string with the purpose that ours ends in: `walferry (copy)` and `app` make `app (copy)`.
    /// The server cuts names at 63 bytes; the purpose is kept.
    #[must_use]
    pub fn application_name_for(&self, ours: &str) -> String {
        let at = ours.rfind(" (").filter(|_| ours.ends_with(')')).unwrap_or(ours.len());
        let (name, purpose) = ours.split_at(at);
        let name = self.application_name.as_deref().unwrap_or(name);
        let room = 63_usize.saturating_sub(purpose.len());
        let mut end = room.min(name.len());
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}{purpose}", &name[..end])
    }

    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    #[must_use]
    pub fn tls(&self) -> &TlsParams {
        &self.tls
    }

    /// The same server and role, another database.
    #[must_use]
    pub fn with_dbname(mut self, dbname: impl Into<String>) -> Params {
        self.dbname = dbname.into();
        self
    }

    /// The same, with a password from elsewhere (a file, a command).
    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> Params {
        self.password = Some(password);
        self
    }

    /// The same, with the password that the first line of `file` holds at each connection; `password` is what it holds now.
    #[must_use]
    pub fn with_password_file(mut self, file: PathBuf, password: SecretString) -> Params {
        self.password_file = Some(file);
        self.password = Some(password);
        self
    }

    /// The password that was given, as its file has it now.
    pub(crate) fn given_password(&self) -> Option<SecretString> {
        let now = self.password_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        match now.as_deref().and_then(|text| text.lines().next()) {
            Some(line) => Some(SecretString::from(line)),
            None => self.password.clone(),
        }
    }

    /// The password for `host`: the one given, else the matching line of `.pgpass`.
    #[must_use]
    pub fn password_for(&self, host: &Host) -> Option<SecretString> {
        self.given_password().or_else(|| {
            let file = self.passfile.as_deref()?;
            passfile::lookup(file, host, &self.dbname, &self.user)
        })
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({}, sslmode={})", self.display(), self.tls.mode)
    }
}
