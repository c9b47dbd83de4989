//! A `tokio_postgres` client together with the task that drives it, under the pinned settings of [`Purpose`].

mod driver;
pub(crate) mod settings;

use std::ops::{Deref, DerefMut};

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, NoTls, Notification};

use crate::params::Params;
use crate::wire::{Canceller, Wire};
use crate::{Result, ServerVersion};

pub(crate) use driver::Resumed;
pub use settings::Purpose;

/// A connection for statements; dropping it closes the connection.
pub struct Session {
    client: tokio_postgres::Client,
    version: ServerVersion,
    canceller: Canceller,
    notifications: Option<mpsc::UnboundedReceiver<Notification>>,
    closed: watch::Receiver<bool>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Connects. `application_name`: see [`Params::application_name_for`].
    pub async fn connect(params: &Params, purpose: Purpose, application_name: &str) -> Result<Session> {
        let wire = Wire::connect(params, purpose, application_name, false).await?;
        let version = wire.version();
        let canceller = wire.canceller();
        let mut config = tokio_postgres::Config::new();
        config.user(params.user()).ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, mut connection) = config.connect_raw(wire.into_resumed(), NoTls).await?;
        let (notify, notifications) = mpsc::unbounded_channel();
        let (close, closed) = watch::channel(false);
        let driver = tokio::spawn(async move {
            let mut messages = poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                match message {
                    // Nobody listening is fine.
                    AsyncMessage::Notification(notification) => drop(notify.send(notification)),
                    AsyncMessage::Notice(notice) => {
                        tracing::debug!(severity = notice.severity(), "server notice: {}", notice.message());
                    }
                    _ => {}
                }
            }
            let _ = close.send(true);
        });
        Ok(Session { client, version, canceller, notifications: Some(notifications), closed, driver })
    }

    #[must_use]
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.canceller.backend_pid()
    }

    /// Cancels what the server does for this session, from any task. (`cancel_token` of the client knows nothing of TLS and hosts.)
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// What LISTEN brings; there is one receiver, handed out once.
    pub fn notifications(&mut self) -> Option<mpsc::UnboundedReceiver<Notification>> {
        self.notifications.take()
    }

    /// Resolves when the connection has ended, for whatever reason.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closed = self.closed.clone();
        async move {
            // An error means that the driver is gone, which is the same.
            let _ = closed.wait_for(|closed| *closed).await;
        }
    }
}

impl Deref for Session {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
