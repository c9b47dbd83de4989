//! Health and metrics over HTTP (`--http 127.0.0.1:9187`): reads only, nothing here changes anything.
//!
//! ```text
//! run ─ Health ─┬─► /healthz   200: the process lives
//! probes ───────┼─► /readyz    200 while events can flow, else 503 and one line that says why
//! metrics ──────┴─► /metrics   Prometheus' text format
//! ```
//!
//! A command calls [`start`] once, before it touches a database, and tells the [`Health`] it gets how things go. Without `--http` that is
//! a handle which nobody asks. Numbers need no handle: they go through the crate `metrics` from wherever they are known
//! ([`pipeline::metric`]).

mod bounded;
mod health;
mod numbers;
mod pages;
mod probe;

use std::net::SocketAddr;

use pg::{Error, Result};
use pipeline::Reporter;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use health::Health;
pub use numbers::{dead_letters, stream};
pub use probe::{kafka, slot};

use bounded::Bounded;

use crate::config::HttpSettings;

/// Listens, if the settings say so. `command` and `run` name the process in `walferry_build_info`.
///
/// # Errors
/// Class `Usage`: the address can't be listened on, or is not this machine's own and `http.expose` is off.
pub async fn start(
    settings: &HttpSettings,
    command: &'static str,
    run: &str,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Result<Health> {
    let Some(listen) = settings.listen else { return Ok(Health::default()) };
    let address = listen.address();
    expose(address, settings.expose, reporter)?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::usage(format!("--http: can't listen on {address}: {}", reason(&error)))
            .hint(format!("give another port; who has this one: ss -ltnp 'sport = :{}'", address.port()))
    })?;
    let numbers = numbers::install(command, run)?;
    let health = Health::watched(cancel.clone());
    let pages = pages::router(health.clone(), numbers);
    tokio::spawn(async move {
        // Ends with the process: what is draining can still be asked how it is.
        if let Err(error) = axum::serve(Bounded::new(listener), pages).await {
            tracing::warn!("--http: {error}");
        }
    });
    tracing::info!("health and metrics on http://{address}");
    Ok(health)
}

/// Whoever reaches the port reads names of tables and topics: an address that others reach has to be asked for.
fn expose(address: SocketAddr, asked: bool, reporter: &Reporter) -> Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    if !asked {
        return Err(Error::usage(format!("--http: {address} can be reached from other machines"))
            .detail("the pages need no password and name topics, steps and error codes")
            .hint("listen on 127.0.0.1, or say that it is meant: --set http.expose=on"));
    }
    reporter.warning(
        format!("health and metrics can be read by everybody who reaches {address}"),
        Some("let only the monitoring through, by firewall or network policy".to_owned()),
    );
    Ok(())
}

/// Without "(os error 98)".
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
        _ => error.to_string(),
    }
}
