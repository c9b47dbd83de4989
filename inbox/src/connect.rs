//! How a worker reaches its database, again and again.

use std::future::Future;
use std::pin::Pin;

use tokio_postgres::{Client, Config, NoTls};

/// Opens a connection. A closure does: `|| Box::pin(async { … })`, so that any TLS connector and any source of passwords will do. The
/// connection's own task is spawned by it.
pub trait Connect: Send + Sync {
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Client, tokio_postgres::Error>> + Send + '_>>;
}

impl<F, R> Connect for F
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<Client, tokio_postgres::Error>> + Send + 'static,
{
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Client, tokio_postgres::Error>> + Send + '_>> {
        Box::pin(self())
    }
}

/// Without TLS: for a server on this machine or in a network of its own.
#[must_use]
pub fn plain(config: Config) -> impl Connect {
    move || {
        let config = config.clone();
        async move {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "the database connection has ended");
                }
            });
            Ok(client)
        }
    }
}
