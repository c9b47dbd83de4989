//! Which servers are tried, in which order, with and without TLS.
//!
//! Every address of every host is tried until one takes us. A server that answers with a refusal (password, pg_hba, certificate) ends
//! the attempt: trying the next one would only hide it. <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS>

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use super::dial::{self, Address, Peer};
use super::startup::Startup;
use super::{Wire, auth};
use crate::params::{Host, Params, SslMode, TargetSessionAttrs};
use crate::{Class, Error, Result};

pub(super) async fn connect(params: &Params, startup: &Startup<'_>) -> Result<Wire> {
    // "prefer-standby" takes any server in a second round.
    let rounds: &[TargetSessionAttrs] = match params.target_session_attrs {
        TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
        ref wanted => std::slice::from_ref(wanted),
    };
    let mut last = None;
    for wanted in rounds {
        for host in ordered(params) {
            let peers = match dial::peers(&host, params.connect_timeout).await {
                Ok(peers) => peers,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            for peer in peers {
                match Box::pin(one(params, startup, &peer, *wanted)).await {
                    Ok(wire) => return Ok(wire),
                    Err(error) if error.class() == Class::Connection => last = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::connection("the host name has no address")))
}

/// The hosts as given, or shuffled (`load_balance_hosts=random`).
fn ordered(params: &Params) -> Vec<Host> {
    let mut hosts = params.hosts.clone();
    if params.load_balance {
        let random = RandomState::new();
        let mut at = 0_usize;
        hosts.sort_by_cached_key(|_| {
            at += 1;
            random.hash_one(at)
        });
    }
    hosts
}

/// One address, within the connect timeout.
async fn one(
    params: &Params,
    startup: &Startup<'_>,
    peer: &Peer,
    wanted: TargetSessionAttrs,
) -> Result<Wire> {
    let attempt = async {
        let mut wire = encrypted_or_not(params, startup, peer).await?;
        wire.check_attributes(wanted).await?;
        warn_of_weak_transport(params, peer, &wire);
        Ok(wire)
    };
    match params.connect_timeout {
        Some(limit) => tokio::time::timeout(limit, attempt).await.map_err(|_| dial::timed_out(peer))?,
        None => attempt.await,
    }
}

/// Says once per server that somebody on the way could read along, or be the server.
fn warn_of_weak_transport(params: &Params, peer: &Peer, wire: &Wire) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let strong = wire.is_tls() && params.tls.mode == SslMode::VerifyFull;
    if strong
        || matches!(&peer.address, Address::Tcp(address) if address.ip().is_loopback())
        || peer.host.is_local()
    {
        return;
    }
    let first = WARNED.lock().is_ok_and(|mut warned| warned.insert(peer.host.to_string()));
    if first {
        let what = match (wire.is_tls(), params.tls.mode) {
            (false, _) => "the connection is not encrypted",
            (true, SslMode::VerifyCa) => "the server's name is not verified",
            (true, _) => "the connection is encrypted, but the server is not verified",
        };
        tracing::warn!(host = %peer.host, sslmode = %params.tls.mode, "{what}; use sslmode=verify-full");
    }
}

async fn encrypted_or_not(params: &Params, startup: &Startup<'_>, peer: &Peer) -> Result<Wire> {
    let mode = match peer.address {
        // A Unix socket never has TLS.
        Address::Unix(_) => SslMode::Disable,
        Address::Tcp(_) => params.tls.mode,
    };
    match mode {
        SslMode::Disable => startup.run(peer, false).await,
        SslMode::Allow => match startup.run(peer, false).await {
            Err(error) if auth::is_refusal_of_transport(&error) => startup.run(peer, true).await,
            other => other,
        },
        SslMode::Prefer => match startup.run(peer, true).await {
            Err(error) if error.code() == "TLS" || auth::is_refusal_of_transport(&error) => startup
                .run(peer, false)
                .await
                .map_err(|plain| if error.code() == "TLS" { plain } else { error }),
            other => other,
        },
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => startup.run(peer, true).await,
    }
}

impl Wire {
    /// `target_session_attrs`.
    async fn check_attributes(&mut self, wanted: TargetSessionAttrs) -> Result<()> {
        let (sql, expected) = match wanted {
            TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => return Ok(()),
            TargetSessionAttrs::ReadWrite => ("SHOW transaction_read_only", "off"),
            TargetSessionAttrs::ReadOnly => ("SHOW transaction_read_only", "on"),
            TargetSessionAttrs::Primary => ("SELECT pg_catalog.pg_is_in_recovery()", "f"),
            TargetSessionAttrs::Standby => ("SELECT pg_catalog.pg_is_in_recovery()", "t"),
        };
        if self.simple_value(sql).await?.as_deref() == Some(expected) {
            return Ok(());
        }
        let name = wanted.keyword_value();
        Err(Error::connection(format!("server is not what target_session_attrs={name} asks for")))
    }
}
