//! The connections that the stream needs, opened while the source is looked at: a start then waits once and not five times.

use pg::{Error, Result};
use reader::stream::{self, Opened};
use tokio_util::task::AbortOnDropHandle;
use writer::apply::Connections;

use super::apply_options;
use crate::config::Via;
use crate::run::context::{Context, Half};

type Connecting<T> = AbortOnDropHandle<Result<T>>;

/// Dropped, nothing of it is left.
pub(super) struct Opening {
    writer: Connecting<Connections>,
    /// None: the reader is another process, or begins behind the topics.
    reader: Option<Connecting<Opened>>,
}

impl Opening {
    pub(super) fn begin(context: &Context) -> Opening {
        let (target, options) = (context.target.clone(), apply_options(context));
        let writer = tokio::spawn(async move { Connections::open(&target, &options).await });
        let direct = context.settings.run.via == Via::Direct && context.half == Half::Both;
        let reader = direct.then(|| {
            let (source, name) = (context.source.clone(), context.name.clone());
            AbortOnDropHandle::new(tokio::spawn(async move { stream::open(&source, &name).await }))
        });
        Opening { writer: AbortOnDropHandle::new(writer), reader }
    }

    pub(super) async fn writer(&mut self) -> Result<Connections> {
        ended((&mut self.writer).await)
    }

    /// The reader's connection.
    pub(super) fn reader(self, options: &stream::Options) -> impl Future<Output = Result<Opened>> + use<> {
        let (params, name) = (options.params.clone(), options.application_name.clone());
        async move {
            match self.reader {
                Some(reader) => ended(reader.await),
                None => stream::open(&params, &name).await,
            }
        }
    }
}

fn ended<T>(joined: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    joined
        .map_err(|panic| Error::failed("CONNECTING", format!("a connection could not be opened: {panic}")))?
}
