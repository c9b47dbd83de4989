//! The worker's connection to its own database.

use tokio_postgres::Client;

use crate::connect::Connect;
use crate::error::{Failure, describe};
use crate::schema;

/// The worker's one connection.
#[derive(Default)]
pub(crate) struct Database {
    client: Option<Client>,
}

impl Database {
    pub(crate) fn open(&self) -> Option<&Client> {
        self.client.as_ref().filter(|client| !client.is_closed())
    }

    /// Opens it where it is not; makes the tables where they are not.
    pub(crate) async fn client(&mut self, connect: &impl Connect) -> Result<&mut Client, Failure> {
        if self.open().is_none() {
            self.client = None;
            let away = |error| Failure::wait(describe(&error));
            let mut client = connect.connect().await.map_err(away)?;
            schema::install(&mut client).await.map_err(away)?;
            self.client = Some(client);
        }
        self.client.as_mut().ok_or_else(|| Failure::wait("no connection"))
    }
}
