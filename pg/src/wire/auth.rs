//! Authentication: SCRAM-SHA-256, bound to the TLS session where that is possible; md5 and clear text only if asked for.
//!
//! The server proves itself too: after a SCRAM exchange AuthenticationOk counts only if the server's signature was right.
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>

use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use secrecy::{ExposeSecret, SecretString};

use super::{Frame, Wire, tag};
use crate::params::{AuthMethod, ChannelBinding, Params};
use crate::{Error, Result};

/// Codes of the Authentication message.
mod request {
    pub(super) const OK: i32 = 0;
    pub(super) const CLEARTEXT: i32 = 3;
    pub(super) const MD5: i32 = 5;
    pub(super) const SASL: i32 = 10;
    pub(super) const SASL_CONTINUE: i32 = 11;
    pub(super) const SASL_FINAL: i32 = 12;
}

/// pg_hba has no line for us over this transport (with or without TLS): the other one may do.
pub(super) fn is_refusal_of_transport(error: &Error) -> bool {
    error.is("28000")
}

/// What the other side of the exchange rests on.
pub(super) struct Authentication<'a> {
    pub(super) params: &'a Params,
    pub(super) password: Option<SecretString>,
    pub(super) end_point: Option<Vec<u8>>,
}

impl Authentication<'_> {
    /// From the start-up message to AuthenticationOk.
    pub(super) async fn run(self, wire: &mut Wire) -> Result<()> {
        let mut method = AuthMethod::None;
        let mut bound = false;
        loop {
            let (code, data) = split(wire.recv().await?)?;
            match code {
                request::OK => break,
                request::CLEARTEXT => {
                    method = self.allowed(AuthMethod::Password, "password")?;
                    frontend::password_message(self.password()?.as_bytes(), wire.out())?;
                }
                request::MD5 => {
                    method = self.allowed(AuthMethod::Md5, "md5")?;
                    let salt = data.first_chunk().ok_or_else(malformed)?;
                    let hash = md5_hash(self.params.user.as_bytes(), self.password()?.as_bytes(), *salt);
                    frontend::password_message(hash.as_bytes(), wire.out())?;
                }
                request::SASL => {
                    method = self.allowed(AuthMethod::ScramSha256, "scram-sha-256")?;
                    bound = self.scram(wire, &data).await?;
                    continue;
                }
                _ => {
                    return Err(Error::refuse(
                        "AUTH",
                        "server asks for an authentication method that is not supported",
                    )
                    .hint("allow scram-sha-256 or cert for this role in pg_hba.conf"));
                }
            }
            wire.flush().await?;
        }
        if method == AuthMethod::None {
            self.allowed(AuthMethod::None, "none")?;
        }
        if self.params.channel_binding == ChannelBinding::Require && !bound {
            return Err(Error::refuse(
                "AUTH",
                "channel binding is required, but the server authenticated the client without it",
            )
            .hint("use TLS and scram-sha-256 on the server, or channel_binding=prefer"));
        }
        Ok(())
    }

    /// One SCRAM exchange; whether it was bound to the TLS session.
    async fn scram(&self, wire: &mut Wire, mechanisms: &[u8]) -> Result<bool> {
        let offered = |name: &str| mechanisms.split(|b| *b == 0).any(|offered| offered == name.as_bytes());
        let end_point =
            self.end_point.clone().filter(|_| self.params.channel_binding != ChannelBinding::Disable);
        let (mechanism, binding) = match end_point {
            Some(end_point) if offered(sasl::SCRAM_SHA_256_PLUS) => {
                (sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(end_point))
            }
            // Tells the server that we would have: a man in the middle who took PLUS off the list is found out.
            Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        let bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        if !offered(mechanism) {
            return Err(Error::refuse(
                "AUTH",
                "none of the server's SASL authentication mechanisms is supported",
            ));
        }
        if self.params.channel_binding == ChannelBinding::Require && !bound {
            return Err(Error::refuse(
                "AUTH",
                "channel binding is required, but the server does not offer it",
            )
            .hint("connect with TLS (sslmode=verify-full), or use channel_binding=prefer"));
        }
        let mut scram = sasl::ScramSha256::new(self.password()?.as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), wire.out())?;
        wire.flush().await?;
        let (code, data) = split(wire.recv().await?)?;
        if code != request::SASL_CONTINUE {
            return Err(malformed());
        }
        scram.update(&data).map_err(|error| refused(&error))?;
        frontend::sasl_response(scram.message(), wire.out())?;
        wire.flush().await?;
        let (code, data) = split(wire.recv().await?)?;
        if code != request::SASL_FINAL {
            return Err(malformed());
        }
        scram.finish(&data).map_err(|error| refused(&error))?;
        Ok(bound)
    }

    fn password(&self) -> Result<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret).ok_or_else(|| {
            Error::refuse("PASSWORD", format!("no password supplied for {}", self.params.display()))
                .hint("give one by PGPASSWORD, ~/.pgpass or a service file")
        })
    }

    fn allowed(&self, method: AuthMethod, name: &str) -> Result<AuthMethod> {
        if self.params.require_auth.allows(method) {
            return Ok(method);
        }
        let error = Error::refuse(
            "AUTH",
            match method {
                AuthMethod::None => {
                    "server did not ask for authentication, which require_auth asks for".to_owned()
                }
                AuthMethod::ScramSha256 | AuthMethod::Md5 | AuthMethod::Password => {
                    format!("server asks for {name} authentication, which is not allowed")
                }
            },
        );
        Err(match method {
            AuthMethod::Md5 | AuthMethod::Password => error.hint(format!(
                "SET password_encryption = 'scram-sha-256', set the role's password again and use scram-sha-256 in pg_hba.conf; \
                 or add require_auth={name} to the connection string"
            )),
            AuthMethod::ScramSha256 | AuthMethod::None => error.hint("change require_auth in the connection string"),
        })
    }
}

/// Code and data of an Authentication message.
fn split(frame: Frame) -> Result<(i32, bytes::Bytes)> {
    if frame.tag != tag::AUTHENTICATION {
        return Err(frame.unexpected("during authentication"));
    }
    let mut data = frame.body;
    let code = data.first_chunk().map(|code| i32::from_be_bytes(*code)).ok_or_else(malformed)?;
    Ok((code, data.split_off(4)))
}

fn malformed() -> Error {
    Error::connection("malformed authentication message from the server")
}

fn refused(error: &std::io::Error) -> Error {
    Error::refuse("AUTH", format!("SCRAM authentication failed: {error}"))
}
