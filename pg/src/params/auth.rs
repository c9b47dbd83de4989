//! Which ways to prove who we are the server may ask for.
//!
//! Unlike libpq, `md5` and a password in clear text are answered only if `require_auth` names them.

use super::keyword::Given;
use crate::{Error, Result};

/// A way of authentication, as `require_auth` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthMethod {
    /// A password in clear text.
    Password,
    Md5,
    ScramSha256,
    /// The server asked for nothing: trust, peer, or a client certificate.
    None,
}

/// The methods that are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequireAuth(Vec<AuthMethod>);

impl Default for RequireAuth {
    fn default() -> Self {
        RequireAuth(vec![AuthMethod::ScramSha256, AuthMethod::None])
    }
}

impl RequireAuth {
    /// As libpq takes it.
    pub(super) fn keyword_value(&self) -> String {
        let name = |method: &AuthMethod| match method {
            AuthMethod::Password => "password",
            AuthMethod::Md5 => "md5",
            AuthMethod::ScramSha256 => "scram-sha-256",
            AuthMethod::None => "none",
        };
        self.0.iter().map(name).collect::<Vec<_>>().join(",")
    }

    #[must_use]
    pub fn allows(&self, method: AuthMethod) -> bool {
        self.0.contains(&method)
    }
}

/// Whether SCRAM is bound to the TLS session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

pub(super) fn require_auth(given: &Given) -> Result<RequireAuth> {
    let Some(list) = given.get("require_auth") else { return Ok(RequireAuth::default()) };
    let mut asked = Vec::new();
    let mut excluded = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let (name, into) = match entry.strip_prefix('!') {
            Some(name) => (name, &mut excluded),
            None => (entry, &mut asked),
        };
        into.push(match name {
            "password" => Some(AuthMethod::Password),
            "md5" => Some(AuthMethod::Md5),
            "scram-sha-256" => Some(AuthMethod::ScramSha256),
            "none" => Some(AuthMethod::None),
            // Never answered, so that naming them changes nothing.
            "gss" | "sspi" | "oauth" => None,
            _ => return Err(Error::usage("invalid method in connection option \"require_auth\"")),
        });
    }
    if !asked.is_empty() && !excluded.is_empty() {
        return Err(Error::usage("connection option \"require_auth\" mixes methods with and without \"!\""));
    }
    if !asked.is_empty() {
        return Ok(RequireAuth(asked.into_iter().flatten().collect()));
    }
    let RequireAuth(mut allowed) = RequireAuth::default();
    allowed.retain(|method| !excluded.contains(&Some(*method)));
    Ok(RequireAuth(allowed))
}

pub(super) fn channel_binding(given: &Given) -> Result<ChannelBinding> {
    Ok(match given.get("channel_binding").unwrap_or("prefer") {
        "disable" => ChannelBinding::Disable,
        "prefer" => ChannelBinding::Prefer,
        "require" => ChannelBinding::Require,
        _ => return Err(Error::usage("invalid value for connection option \"channel_binding\"")),
    })
}
