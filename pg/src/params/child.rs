//! The same connection for a child program (pg_dump): by environment, so that no secret stands in its arguments.

use std::path::Path;

use secrecy::ExposeSecret;

use super::keyword::{variable, variables};
use super::{CertMode, ChannelBinding, Endpoint, Params, RootCert, SslNegotiation, TargetSessionAttrs};

impl Params {
    /// `PG*` variables that make libpq connect as we do. Variables of this process that are not among them must not reach the
    /// child: see [`Params::configure_child`].
    #[must_use]
    pub fn password_env(&self) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> = Vec::new();
        let mut set = |keyword: &str, value: String| out.push((variable(keyword).to_owned(), value));
        let names = self.hosts.iter().map(|host| match &host.endpoint {
            Endpoint::Tcp { name, .. } => name.clone(),
            Endpoint::Unix(folder) => folder.display().to_string(),
        });
        set("host", names.collect::<Vec<_>>().join(","));
        let addresses = self.hosts.iter().map(|host| match &host.endpoint {
            Endpoint::Tcp { address: Some(address), .. } => address.to_string(),
            _ => String::new(),
        });
        let addresses = addresses.collect::<Vec<_>>();
        if addresses.iter().any(|address| !address.is_empty()) {
            set("hostaddr", addresses.join(","));
        }
        set("port", self.hosts.iter().map(|host| host.port.to_string()).collect::<Vec<_>>().join(","));
        // Of several hosts it has to find the same one.
        if self.target_session_attrs != TargetSessionAttrs::Any {
            set("target_session_attrs", self.target_session_attrs.keyword_value().to_owned());
        }
        set("user", self.user.clone());
        set("dbname", self.dbname.clone());
        if let Some(password) = self.given_password() {
            set("password", password.expose_secret().to_owned());
        }
        if let Some(file) = &self.passfile {
            set("passfile", text(file));
        }
        if let Some(options) = &self.options {
            set("options", options.clone());
        }
        if let Some(timeout) = self.connect_timeout {
            set("connect_timeout", timeout.as_secs().to_string());
        }
        if let Some(peer) = &self.require_peer {
            set("requirepeer", peer.clone());
        }
        set(
            "channel_binding",
            match self.channel_binding {
                ChannelBinding::Disable => "disable",
                ChannelBinding::Prefer => "prefer",
                ChannelBinding::Require => "require",
            }
            .to_owned(),
        );
        set("require_auth", self.require_auth.keyword_value());
        set("sslmode", self.tls.mode.to_string());
        match &self.tls.root_cert {
            RootCert::System => set("sslrootcert", "system".to_owned()),
            RootCert::File(Some(file)) => set("sslrootcert", text(file)),
            RootCert::File(None) => {}
        }
        if self.tls.negotiation == SslNegotiation::Direct {
            set("sslnegotiation", "direct".to_owned());
        }
        for (keyword, file) in
            [("sslcert", &self.tls.cert), ("sslkey", &self.tls.key), ("sslcrl", &self.tls.crl)]
        {
            if let Some(file) = file {
                set(keyword, text(file));
            }
        }
        match self.tls.cert_mode {
            CertMode::Disable => set("sslcertmode", "disable".to_owned()),
            CertMode::Allow => {}
            CertMode::Require => set("sslcertmode", "require".to_owned()),
        }
        out
    }

    /// Gives `command` this connection and takes every other `PG*` variable of libpq from it.
    pub fn configure_child(&self, command: &mut std::process::Command) {
        for name in variables() {
            command.env_remove(name);
        }
        command.envs(self.password_env());
    }
}

fn text(file: &Path) -> String {
    file.display().to_string()
}
