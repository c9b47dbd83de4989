//! From an open stream to a session: start-up message, authentication, settings.

use std::collections::HashMap;

use postgres_protocol::message::frontend;

use super::auth::Authentication;
use super::cancel::Canceller;
use super::dial::{self, Peer};
use super::input::Input;
use super::output::Output;
use super::{Wire, tag};
use crate::params::Params;
use crate::session::{Purpose, settings};
use crate::{Error, Result, ServerVersion};

/// Before authentication nobody sends us much (libpq: 30 000 for an error).
const STARTUP_MESSAGE_LIMIT: usize = 64 * 1024;

pub(super) struct Startup<'a> {
    pub(super) params: &'a Params,
    pub(super) purpose: Purpose,
    pub(super) application_name: &'a str,
    pub(super) replication: bool,
}

impl Startup<'_> {
    /// Connects to `peer`.
    pub(super) async fn run(&self, peer: &Peer, tls: bool) -> Result<Wire> {
        let dialled = dial::dial(self.params, peer, tls, self.purpose).await?;
        let mut wire = Wire {
            stream: dialled.stream,
            input: Input::new(),
            output: Output::default(),
            parameters: HashMap::new(),
            version: ServerVersion(0),
            canceller: Canceller {
                params: self.params.clone(),
                peer: peer.clone(),
                tls,
                backend_pid: 0,
                secret_key: 0,
            },
            transaction_status: b'I',
            notices: Vec::new(),
        };
        let limit = std::mem::replace(&mut wire.input.limit, STARTUP_MESSAGE_LIMIT);
        self.encode(&mut wire)?;
        wire.flush().await?;
        let authentication = Authentication {
            params: self.params,
            password: self.params.password_for(&peer.host),
            end_point: dialled.end_point,
        };
        authentication.run(&mut wire).await.map_err(|error| self.explain(error, peer))?;
        wire.until_started().await.map_err(|error| self.explain(error, peer))?;
        wire.input.limit = limit;
        wire.pin_settings(self.purpose).await?;
        Ok(wire)
    }

    fn encode(&self, wire: &mut Wire) -> Result<()> {
        let name = self.params.application_name_for(self.application_name);
        let mut pairs = vec![
            ("user", self.params.user.as_str()),
            ("database", self.params.dbname.as_str()),
            ("application_name", &name),
        ];
        if self.replication {
            pairs.push(("replication", "database"));
        }
        // The server takes `options` first, whatever the order here: ours win.
        if let Some(options) = &self.params.options {
            pairs.push(("options", options));
        }
        for (setting, value) in settings::startup(self.purpose) {
            pairs.push((setting, value));
        }
        frontend::startup_message(pairs, wire.out())?;
        Ok(())
    }

    /// Adds to a server's refusal what would cure it.
    fn explain(&self, error: Error, peer: &Peer) -> Error {
        let Params { user, dbname, .. } = self.params;
        let hint = match error.sqlstate() {
            _ if error.hint_text().is_some() => return error,
            Some("28P01") => "give the role's password by PGPASSWORD, ~/.pgpass or a service file".to_owned(),
            Some("28000") if error.primary().contains("pg_hba.conf") => {
                format!(
                    "add a line for this client to pg_hba.conf: hostssl {dbname} {user} <address> scram-sha-256"
                )
            }
            Some("3D000") => format!("CREATE DATABASE {}", crate::quote_ident(dbname)),
            _ => return error,
        };
        error.context(format!("connection to server at {peer} failed")).hint(hint)
    }
}

impl Wire {
    /// From AuthenticationOk to the first ReadyForQuery.
    async fn until_started(&mut self) -> Result<()> {
        loop {
            let frame = self.recv().await?;
            match frame.tag {
                tag::BACKEND_KEY_DATA => {
                    let numbers: &[u8; 8] = frame
                        .body
                        .first_chunk()
                        .ok_or_else(|| Error::connection("malformed BackendKeyData from the server"))?;
                    let [a, b, c, d, e, f, g, h] = *numbers;
                    self.canceller.backend_pid = i32::from_be_bytes([a, b, c, d]);
                    self.canceller.secret_key = i32::from_be_bytes([e, f, g, h]);
                }
                tag::NEGOTIATE_PROTOCOL_VERSION => {}
                tag::READY_FOR_QUERY => break,
                _ => return Err(frame.unexpected("during start-up")),
            }
        }
        self.version = match self.parameter("server_version").and_then(ServerVersion::parse) {
            Some(version) => version,
            None => {
                let number = self.simple_value("SHOW server_version_num").await?;
                let number = number.and_then(|number| number.parse().ok());
                ServerVersion(
                    number.ok_or_else(|| Error::refuse("VERSION", "the server does not say its version"))?,
                )
            }
        };
        Ok(())
    }

    async fn pin_settings(&mut self, purpose: Purpose) -> Result<()> {
        let known = settings::after_startup(purpose, self.version);
        match self.simple(&format!("{known}{}", settings::server_keepalive(purpose, self.version))).await {
            // A platform without these socket options: do without.
            Err(error) if error.sqlstate().is_some() => self.simple(&known).await.map(drop),
            other => other.map(drop),
        }
    }
}
