//! What every step of a run needs.

use std::sync::atomic::AtomicBool;

use pg::{Error, Params, Purpose, Result, Session};
use pipeline::Reporter;
use tokio_util::sync::CancellationToken;
use writer::control::Mode;

use crate::config::Settings;
use crate::http::Health;
use crate::outbox::shared::Shared;

/// What of a run's stream this process carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// From the slot to the target.
    Both,
    /// From the topics to the target; `walferry read` is another process.
    Writer,
}

/// A run's settings, its four connections, and where it reports.
pub struct Context {
    pub settings: Settings,
    pub mode: Mode,
    pub half: Half,
    /// Other processes may take a share of the tables.
    pub share: bool,
    /// Patterns of the tables that this process takes, where it helps.
    pub pinned: Vec<String>,
    /// Patterns of tables that this start copies again.
    pub resync: Vec<String>,
    /// The run has been told of them: once, whatever happens to it afterwards.
    pub resync_marked: AtomicBool,
    pub name: String,
    pub source: Params,
    pub target: Params,
    pub source_admin: Params,
    pub target_admin: Params,
    pub reporter: Reporter,
    pub cancel: CancellationToken,
    /// Told how things go; nobody asks unless a command has put another one here.
    pub health: Health,
    /// Outbox events are routed in the same stream.
    pub outbox: Option<Shared>,
    /// A table was met that can't take values in binary: the stream brings text from now on.
    pub text_stream: AtomicBool,
}

impl Context {
    pub fn new(
        settings: Settings,
        mode: Mode,
        reporter: Reporter,
        cancel: CancellationToken,
    ) -> Result<Context> {
        Ok(Context {
            name: settings.name().to_owned(),
            source: settings.source()?,
            target: settings.target()?,
            source_admin: settings.source_admin()?,
            target_admin: settings.target_admin()?,
            settings,
            mode,
            half: Half::Both,
            share: false,
            pinned: Vec::new(),
            resync: Vec::new(),
            resync_marked: AtomicBool::new(false),
            reporter,
            cancel,
            health: Health::default(),
            outbox: None,
            text_stream: AtomicBool::new(false),
        })
    }

    /// A run that is fed from topics alone: without a source of its own, whose place the target takes.
    pub fn of_topics(settings: Settings, reporter: Reporter, cancel: CancellationToken) -> Result<Context> {
        let (target, target_admin) = (settings.target()?, settings.target_admin()?);
        Ok(Context {
            name: settings.name().to_owned(),
            source: target.clone(),
            source_admin: target_admin.clone(),
            target,
            target_admin,
            settings,
            mode: Mode::Replicate,
            half: Half::Writer,
            share: false,
            pinned: Vec::new(),
            resync: Vec::new(),
            resync_marked: AtomicBool::new(false),
            reporter,
            cancel,
            health: Health::default(),
            outbox: None,
            text_stream: AtomicBool::new(false),
        })
    }

    /// Questions to the target's catalogs.
    pub async fn target_session(&self) -> Result<Session> {
        Session::connect(&self.target, Purpose::Query, &format!("{} (control)", self.name))
            .await
            .map_err(on_target)
    }

    /// The same run, fed by a reader of its own.
    #[must_use]
    pub fn writer_alone(mut self) -> Context {
        self.half = Half::Writer;
        self
    }

    /// With tables to be copied again.
    #[must_use]
    pub fn resync(mut self, patterns: Vec<String>) -> Context {
        self.resync = patterns;
        self
    }

    /// An error once the run is to end: what is half done must not look done.
    pub fn not_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::failed("INTERRUPTED", "the run was interrupted"));
        }
        Ok(())
    }

    /// Questions to the source's catalogs.
    pub async fn source_session(&self) -> Result<Session> {
        Session::connect(&self.source, Purpose::Query, &format!("{} (control)", self.name))
            .await
            .map_err(on_source)
    }

    /// The role that owns the source's tables.
    pub async fn source_admin_session(&self) -> Result<Session> {
        Session::connect(&self.source_admin, Purpose::Query, &format!("{} (admin)", self.name))
            .await
            .map_err(on_source)
    }

    /// The role that makes the target's tables.
    pub async fn target_admin_session(&self) -> Result<Session> {
        Session::connect(&self.target_admin, Purpose::TargetAdmin, &format!("{} (admin)", self.name))
            .await
            .map_err(on_target)
    }
}

pub fn on_source(error: pg::Error) -> pg::Error {
    let error = error.context("source");
    if error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) && error.hint_text().is_none() {
        return error.hint(
            "run on the source: GRANT SELECT ON the table TO the run's role; the run then goes on by itself",
        );
    }
    error
}

pub fn on_target(error: pg::Error) -> pg::Error {
    error.context("target")
}
