//! Cancel requests: a connection of their own, to the same address.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{self, Peer};
use crate::Result;
use crate::params::Params;
use crate::session::Purpose;

/// Asks the server to cancel what it does for one connection. Cheap to clone; outlives the connection.
#[derive(Clone)]
pub struct Canceller {
    pub(super) params: Params,
    pub(super) peer: Peer,
    pub(super) tls: bool,
    pub(super) backend_pid: i32,
    pub(super) secret_key: i32,
}

impl Canceller {
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Sends the request; the server never says whether it helped.
    pub async fn cancel(&self) -> Result<()> {
        let limit = self.params.connect_timeout.unwrap_or(std::time::Duration::from_secs(10));
        let request = async {
            let mut stream = dial::dial(&self.params, &self.peer, self.tls, Purpose::Query).await?.stream;
            let mut message = BytesMut::new();
            frontend::cancel_request(self.backend_pid, self.secret_key, &mut message);
            stream.write_all(&message).await?;
            stream.flush().await?;
            // The server closes when it has passed the request on.
            let _ = stream.read(&mut [0_u8; 1]).await;
            Ok(())
        };
        tokio::time::timeout(limit, request).await.map_err(|_| dial::timed_out(&self.peer))?
    }
}
