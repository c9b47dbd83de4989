//! Where to connect: one entry per host of the list, in order.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::keyword::Given;
use crate::{Error, Result};

/// One server to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    pub endpoint: Endpoint,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// `address` (`hostaddr`) spares the name lookup; `name` is what a certificate is compared with.
    Tcp { name: String, address: Option<IpAddr> },
    /// Folder of the socket `.s.PGSQL.<port>`.
    Unix(PathBuf),
}

/// What the server must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetSessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl TargetSessionAttrs {
    /// As it is written in a connection string.
    #[must_use]
    pub fn keyword_value(self) -> &'static str {
        match self {
            TargetSessionAttrs::Any => "any",
            TargetSessionAttrs::ReadWrite => "read-write",
            TargetSessionAttrs::ReadOnly => "read-only",
            TargetSessionAttrs::Primary => "primary",
            TargetSessionAttrs::Standby => "standby",
            TargetSessionAttrs::PreferStandby => "prefer-standby",
        }
    }
}

impl Host {
    /// Traffic to it does not leave the machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.endpoint {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp { address: Some(address), .. } => address.is_loopback(),
            Endpoint::Tcp { name, .. } => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// The socket's file, for a Unix endpoint.
    #[must_use]
    pub fn socket_file(&self) -> Option<PathBuf> {
        match &self.endpoint {
            Endpoint::Unix(folder) => Some(folder.join(format!(".s.PGSQL.{}", self.port))),
            Endpoint::Tcp { .. } => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Unix(folder) => write!(f, "{}:{}", folder.display(), self.port),
            Endpoint::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Endpoint::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The lists `host`, `hostaddr` and `port` as one.
pub(super) fn hosts(given: &Given) -> Result<Vec<Host>> {
    let names: Vec<&str> =
        given.get("host").map(|list| list.split(',').map(str::trim).collect()).unwrap_or_default();
    let addresses: Vec<&str> =
        given.get("hostaddr").map(|list| list.split(',').map(str::trim).collect()).unwrap_or_default();
    let ports: Vec<&str> =
        given.get("port").map(|list| list.split(',').map(str::trim).collect()).unwrap_or_default();
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(Error::usage(format!(
            "{} host names, but {} hostaddr values",
            names.len(),
            addresses.len()
        )));
    }
    let count = names.len().max(addresses.len()).max(1);
    if ports.len() > 1 && ports.len() != count {
        return Err(Error::usage(format!("{} ports, but {count} hosts", ports.len())));
    }
    (0..count)
        .map(|at| {
            let port = port(ports.get(at).or(ports.first()).copied().unwrap_or_default())?;
            let name = names.get(at).copied().unwrap_or_default();
            let endpoint = match addresses.get(at).copied().filter(|address| !address.is_empty()) {
                Some(address) => {
                    let parsed =
                        address.parse().map_err(|_| Error::usage("invalid IP address in \"hostaddr\""))?;
                    let name = if name.is_empty() || name.starts_with('/') { address } else { name };
                    Endpoint::Tcp { name: name.to_owned(), address: Some(parsed) }
                }
                None => endpoint(name),
            };
            Ok(Host { endpoint, port })
        })
        .collect()
}

fn endpoint(name: &str) -> Endpoint {
    match name {
        "" => match ["/var/run/postgresql", "/tmp"].into_iter().map(Path::new).find(|folder| folder.is_dir())
        {
            Some(folder) => Endpoint::Unix(folder.to_owned()),
            None => Endpoint::Tcp { name: "localhost".to_owned(), address: None },
        },
        name if name.starts_with('/') => Endpoint::Unix(PathBuf::from(name)),
        name => Endpoint::Tcp { name: name.to_owned(), address: None },
    }
}

fn port(text: &str) -> Result<u16> {
    if text.is_empty() {
        return Ok(5432);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        Error::usage("invalid port number in the connection string").hint(
            "if a \"/\", \":\" or \"@\" of a password ended up there, percent-encode it (%2F, %3A, %40)",
        )
    })
}

pub(super) fn target_session_attrs(given: &Given) -> Result<TargetSessionAttrs> {
    Ok(match given.get("target_session_attrs").unwrap_or("any") {
        "any" => TargetSessionAttrs::Any,
        "read-write" => TargetSessionAttrs::ReadWrite,
        "read-only" => TargetSessionAttrs::ReadOnly,
        "primary" => TargetSessionAttrs::Primary,
        "standby" => TargetSessionAttrs::Standby,
        "prefer-standby" => TargetSessionAttrs::PreferStandby,
        _ => return Err(Error::usage("invalid value for connection option \"target_session_attrs\"")),
    })
}
