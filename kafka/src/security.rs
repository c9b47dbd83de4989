//! TLS and SASL to the brokers.
//!
//! SASL/PLAIN is part of every build. TLS, and SCRAM with it, need OpenSSL, and with it the feature `tls`. Whatever is encrypted is verified:
//! there is no setting that trusts any certificate.

use std::path::PathBuf;

use pg::{Error, Result};
use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

/// Whether this build has TLS and SCRAM.
pub const TLS: bool = cfg!(feature = "tls");

/// `security.protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Protocol {
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Protocol::Ssl | Protocol::SaslSsl)
    }

    #[must_use]
    pub fn has_sasl(self) -> bool {
        matches!(self, Protocol::SaslPlaintext | Protocol::SaslSsl)
    }

    /// What this build lacks for it; none: nothing.
    #[must_use]
    pub fn lacks(self, mechanism: Mechanism) -> Option<String> {
        self.lacks_in(mechanism, TLS)
    }

    fn lacks_in(self, mechanism: Mechanism, tls: bool) -> Option<String> {
        let scram = self.has_sasl() && mechanism != Mechanism::Plain;
        let what = match self.is_encrypted() {
            _ if tls => return None,
            true => format!("kafka.security_protocol={}", self.word().to_ascii_uppercase()),
            false if scram => format!("kafka.sasl_mechanism={}", mechanism.word()),
            false => return None,
        };
        Some(format!(
            "{what} needs OpenSSL, and this walferry was built without it: cargo build --release --features kafka-tls (or \
             kafka-tls-vendored, which needs no libssl)"
        ))
    }

    fn word(self) -> &'static str {
        match self {
            Protocol::Plaintext => "plaintext",
            Protocol::Ssl => "ssl",
            Protocol::SaslPlaintext => "sasl_plaintext",
            Protocol::SaslSsl => "sasl_ssl",
        }
    }
}

/// `sasl.mechanism`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    #[default]
    ScramSha512,
}

impl Mechanism {
    fn word(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who we are to the brokers, and how we know them.
#[derive(Clone, Debug)]
pub struct Security {
    pub protocol: Protocol,
    pub mechanism: Mechanism,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// Authorities whose signature counts; none: the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate, for brokers that ask for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<SecretString>,
    /// The certificate has to name the host that was asked for.
    pub host_name: bool,
}

impl Default for Security {
    fn default() -> Self {
        Security {
            protocol: Protocol::default(),
            mechanism: Mechanism::default(),
            username: None,
            password: None,
            ca: None,
            certificate: None,
            key: None,
            key_password: None,
            host_name: true,
        }
    }
}

impl Security {
    /// # Errors
    /// Class `Usage`: a build without TLS is asked for it, or the credentials are not whole.
    pub fn check(&self) -> Result<()> {
        if let Some(lacks) = self.protocol.lacks(self.mechanism) {
            return Err(Error::usage(lacks));
        }
        if self.protocol.has_sasl() && (self.username.is_none() || self.password.is_none()) {
            return Err(Error::usage(format!(
                "kafka.security_protocol={} needs a user and a password",
                self.protocol.word()
            ))
            .hint(
                "give kafka.sasl_username, and the password by kafka.sasl_password_file, kafka.sasl_password_command or \
                 WALFERRY_KAFKA_SASL_PASSWORD",
            ));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(Error::usage("kafka.ssl_cert and kafka.ssl_key go together"));
        }
        Ok(())
    }

    pub(crate) fn apply(&self, config: &mut ClientConfig) {
        config.set("security.protocol", self.protocol.word());
        if self.protocol.is_encrypted() {
            let path = |path: &PathBuf| path.to_string_lossy().into_owned();
            config
                .set("ssl.endpoint.identification.algorithm", if self.host_name { "https" } else { "none" });
            for (name, file) in [
                ("ssl.ca.location", &self.ca),
                ("ssl.certificate.location", &self.certificate),
                ("ssl.key.location", &self.key),
            ] {
                if let Some(file) = file {
                    config.set(name, path(file));
                }
            }
            if let Some(password) = &self.key_password {
                config.set("ssl.key.password", password.expose_secret());
            }
        }
        if self.protocol.has_sasl() {
            config.set("sasl.mechanism", self.mechanism.word());
            config.set("sasl.username", self.username.as_deref().unwrap_or_default());
            config.set(
                "sasl.password",
                self.password.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default(),
            );
        }
    }

    /// The same connection without credentials and without a look at the host's name.
    pub(crate) fn anonymous(&self) -> Security {
        Security {
            protocol: if self.protocol.is_encrypted() { Protocol::Ssl } else { Protocol::Plaintext },
            ca: self.ca.clone(),
            host_name: false,
            ..Security::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sasl(protocol: Protocol, mechanism: Mechanism) -> Security {
        Security {
            protocol,
            mechanism,
            username: Some("walferry".to_owned()),
            password: Some("s3cret".into()),
            ..Security::default()
        }
    }

    #[test]
    fn a_build_without_tls_says_how_to_get_it() {
        for (protocol, mechanism) in [
            (Protocol::Ssl, Mechanism::Plain),
            (Protocol::SaslSsl, Mechanism::ScramSha512),
            (Protocol::SaslPlaintext, Mechanism::ScramSha256),
        ] {
            let lacks = protocol.lacks_in(mechanism, false).unwrap();
            assert!(lacks.contains("--features kafka-tls"), "{lacks}");
            assert_eq!(protocol.lacks_in(mechanism, true), None);
        }
        assert_eq!(Protocol::SaslPlaintext.lacks_in(Mechanism::Plain, false), None);
        assert_eq!(Protocol::Plaintext.lacks_in(Mechanism::ScramSha512, false), None);
    }

    #[test]
    fn credentials_are_whole_or_refused() {
        let mut security = sasl(Protocol::SaslPlaintext, Mechanism::Plain);
        security.password = None;
        assert!(security.check().unwrap_err().hint_text().unwrap().contains("password_file"));
        let security = Security { certificate: Some("c.pem".into()), ..Security::default() };
        assert!(security.check().is_err());
    }

    #[test]
    fn a_password_is_not_printed() {
        let security = sasl(Protocol::SaslSsl, Mechanism::Plain);
        assert!(!format!("{security:?}").contains("s3cret"));
        assert!(!format!("{:?}", security.anonymous()).contains("walferry"));
    }
}
