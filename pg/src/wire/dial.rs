//! From an address to a stream of bytes: socket, socket options, TLS.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpSocket, UnixStream};

use super::Stream;
use crate::params::{Endpoint, Host, Params};
use crate::session::Purpose;
use crate::tls::{self, Negotiated};
use crate::{Class, Error, Result};

/// One address of one host.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) host: Host,
    pub(super) address: Address,
}

#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host.endpoint, &self.address) {
            (Endpoint::Tcp { name, .. }, Address::Tcp(address)) if *name != address.ip().to_string() => {
                write!(f, "\"{name}\" ({}), port {}", address.ip(), address.port())
            }
            (_, Address::Tcp(address)) => write!(f, "\"{}\", port {}", address.ip(), address.port()),
            (_, Address::Unix(file)) => write!(f, "socket \"{}\"", file.display()),
        }
    }
}

/// An open stream.
pub(super) struct Dialled {
    pub(super) stream: Stream,
    /// `tls-server-end-point` data, where there is a certificate whose hash is defined.
    pub(super) end_point: Option<Vec<u8>>,
}

/// The addresses of `host`, asked of the resolver for no longer than `limit`.
pub(super) async fn peers(host: &Host, limit: Option<Duration>) -> Result<Vec<Peer>> {
    let peer = |address| Peer { host: host.clone(), address };
    match &host.endpoint {
        Endpoint::Unix(folder) => {
            Ok(vec![peer(Address::Unix(folder.join(format!(".s.PGSQL.{}", host.port))))])
        }
        Endpoint::Tcp { address: Some(address), .. } => {
            Ok(vec![peer(Address::Tcp(SocketAddr::new(*address, host.port)))])
        }
        Endpoint::Tcp { name, .. } => {
            let lookup = tokio::net::lookup_host((name.as_str(), host.port));
            let found = match limit {
                Some(limit) => {
                    tokio::time::timeout(limit, lookup).await.unwrap_or_else(|late| Err(late.into()))
                }
                None => lookup.await,
            };
            let found = found.map_err(|error| {
                Error::connection(format!("could not translate host name \"{name}\" to address: {error}"))
                    .hint("check the host in the connection string")
            })?;
            Ok(found.map(|address| peer(Address::Tcp(address))).collect())
        }
    }
}

/// Connects, with TLS if `tls`.
pub(super) async fn dial(params: &Params, peer: &Peer, tls: bool, purpose: Purpose) -> Result<Dialled> {
    let refused = |error: std::io::Error| {
        Error::connection(format!("connection to server at {peer} failed: {error}"))
            .hint("check that the server runs there and listens on that address and port")
    };
    let stream = match &peer.address {
        Address::Unix(file) => {
            let stream = UnixStream::connect(file).await.map_err(refused)?;
            if let Some(wanted) = &params.require_peer {
                check_peer(&stream, wanted)?;
            }
            return Ok(Dialled { stream: Stream::Unix(stream), end_point: None });
        }
        Address::Tcp(address) => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let stream = socket.map_err(refused)?.connect(*address).await.map_err(refused)?;
            set_options(&stream, params, purpose).map_err(refused)?;
            stream
        }
    };
    if !tls {
        return Ok(Dialled { stream: Stream::Tcp(stream), end_point: None });
    }
    let name = match &peer.host.endpoint {
        Endpoint::Tcp { name, .. } => name.as_str(),
        Endpoint::Unix(_) => "localhost",
    };
    let negotiated = Box::pin(tls::negotiate(stream, name, &params.tls)).await;
    match negotiated.map_err(|error| error.context(format!("connection to server at {peer} failed")))? {
        Negotiated::Tls { stream, end_point } => Ok(Dialled { stream: Stream::Tls(stream), end_point }),
        Negotiated::Plain(stream) => Ok(Dialled { stream: Stream::Tcp(stream), end_point: None }),
    }
}

/// How long what was sent may stay unacknowledged by the peer's kernel, where the connection string does not say. Keepalives don't count
/// while something is on its way, and without this limit the kernel goes on for a quarter of an hour.
///
/// A peer that is there and does not read (a backend that waits for a lock) counts as silent too, once its window is full. Only what
/// sends rows fills one, and that is given longer.
fn user_timeout(purpose: Purpose) -> Duration {
    match purpose {
        Purpose::TargetApply => Duration::from_secs(300),
        _ => Duration::from_secs(30),
    }
}

fn set_options(stream: &tokio::net::TcpStream, params: &Params, purpose: Purpose) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    if let Some(keepalive) = params.keepalive {
        socket.set_tcp_keepalive(
            &socket2::TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count),
        )?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(params.tcp_user_timeout.unwrap_or_else(|| user_timeout(purpose))))?;
    Ok(())
}

/// `requirepeer`: the server process belongs to the account that was named.
fn check_peer(stream: &UnixStream, wanted: &str) -> Result<()> {
    let uid = stream.peer_cred()?.uid();
    let accounts = crate::params::accounts();
    if accounts.iter().any(|(number, name)| *number == uid && name == wanted) {
        return Ok(());
    }
    Err(Error::refuse(
        "PEER",
        format!("requirepeer specifies \"{wanted}\", but the server runs as user id {uid}"),
    ))
}

pub(super) fn timed_out(peer: &Peer) -> Error {
    Error::connection(format!("connection to server at {peer} failed: timeout expired"))
        .hint("check the address, or raise connect_timeout in the connection string")
        .with_class(Class::Connection)
}
