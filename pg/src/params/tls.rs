//! What the connection string says about TLS; the meanings are libpq's.
//!
//! <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>

use std::fmt;
use std::path::PathBuf;

use super::keyword::Given;
use super::{Environment, Host};
use crate::{Error, Result};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plain first, TLS if the server refuses that.
    Allow,
    /// TLS first, plain if the server has none.
    Prefer,
    /// TLS; the certificate is verified only if a root certificate file exists.
    Require,
    /// TLS, and the certificate comes from a known authority.
    VerifyCa,
    /// The same, and it is for the host that was asked for.
    VerifyFull,
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SslNegotiation {
    /// SSLRequest first.
    Postgres,
    /// TLS from the first byte (servers from 17 on).
    Direct,
}

/// Which authorities are trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootCert {
    /// The operating system's.
    System,
    /// A file of PEM certificates; `None` where the default file does not exist.
    File(Option<PathBuf>),
}

/// Whether a client certificate is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertMode {
    Disable,
    Allow,
    Require,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsParams {
    pub mode: SslMode,
    /// Somebody wrote the mode; without it stands what [`default_mode`] says.
    pub mode_given: bool,
    pub negotiation: SslNegotiation,
    pub root_cert: RootCert,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub cert_mode: CertMode,
    pub crl: Option<PathBuf>,
    /// Send the host name in clear (SNI).
    pub sni: bool,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
}

/// libpq's `prefer` takes a connection in clear text without a word. That is our default only where the traffic stays on this machine: to
/// another host it has to be asked for.
fn default_mode(root_cert: &RootCert, hosts: &[Host]) -> &'static str {
    if *root_cert == RootCert::System {
        "verify-full"
    } else if hosts.iter().all(Host::is_local) {
        "prefer"
    } else {
        "require"
    }
}

pub(super) fn tls(given: &Given, environment: &Environment, hosts: &[Host]) -> Result<TlsParams> {
    let root_cert = match given.get("sslrootcert") {
        Some("system") => RootCert::System,
        Some(file) => RootCert::File(Some(PathBuf::from(file))),
        None => RootCert::File(environment.in_home(".postgresql/root.crt").filter(|file| file.exists())),
    };
    let mode_given = given.get("sslmode");
    let mode = match mode_given.unwrap_or_else(|| default_mode(&root_cert, hosts)) {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return Err(invalid("sslmode")),
    };
    if root_cert == RootCert::System && mode != SslMode::VerifyFull {
        return Err(Error::usage(format!("weak sslmode \"{mode}\" may not be used with sslrootcert=system"))
            .hint("use sslmode=verify-full"));
    }
    let negotiation = match given.get("sslnegotiation").unwrap_or("postgres") {
        "postgres" => SslNegotiation::Postgres,
        "direct" => SslNegotiation::Direct,
        _ => return Err(invalid("sslnegotiation")),
    };
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        return Err(Error::usage(format!(
            "weak sslmode \"{mode}\" may not be used with sslnegotiation=direct"
        ))
        .hint("use sslmode=require, verify-ca or verify-full"));
    }
    if given.get("sslpassword").is_some() {
        return Err(Error::usage("connection option \"sslpassword\" is not supported").hint(
            "keep the key unencrypted with permissions 0600: openssl pkey -in client.key -out plain.key",
        ));
    }
    let file = |keyword: &str, default: &str| {
        let own = given.get(keyword).map(PathBuf::from);
        own.or_else(|| environment.in_home(default).filter(|file| file.exists()))
    };
    let version = |keyword: &str, default: TlsVersion| match given.get(keyword) {
        None => Ok(default),
        Some(text) => match text.to_ascii_lowercase().as_str() {
            "tlsv1" | "tlsv1.1" | "tlsv1.2" => Ok(TlsVersion::Tls12),
            "tlsv1.3" => Ok(TlsVersion::Tls13),
            _ => Err(invalid(keyword)),
        },
    };
    Ok(TlsParams {
        mode,
        mode_given: mode_given.is_some(),
        negotiation,
        root_cert,
        cert: file("sslcert", ".postgresql/postgresql.crt"),
        key: file("sslkey", ".postgresql/postgresql.key"),
        cert_mode: match given.get("sslcertmode").unwrap_or("allow") {
            "disable" => CertMode::Disable,
            "allow" => CertMode::Allow,
            "require" => CertMode::Require,
            _ => return Err(invalid("sslcertmode")),
        },
        crl: file("sslcrl", ".postgresql/root.crl"),
        sni: given.get("sslsni") != Some("0"),
        min_version: version("ssl_min_protocol_version", TlsVersion::Tls12)?,
        max_version: version("ssl_max_protocol_version", TlsVersion::Tls13)?,
    })
}

fn invalid(keyword: &str) -> Error {
    Error::usage(format!("invalid value for connection option \"{keyword}\""))
}
