//! What every command gets: its settings, somewhere to report to, and the token that a signal cancels.

use pg::Result;
use pipeline::Reporter;
use tokio_util::sync::CancellationToken;
use writer::control::Run;

use crate::config::{Layers, Needs, Settings, fields};

/// Handed to a command; cheap parts are cloned out of it.
pub struct Context {
    pub settings: Settings,
    pub reporter: Reporter,
    /// Cancelled by the first SIGINT or SIGTERM.
    pub cancel: CancellationToken,
    layers: Layers,
}

impl Context {
    #[must_use]
    pub fn new(layers: Layers, settings: Settings, reporter: Reporter, cancel: CancellationToken) -> Self {
        Context { settings, reporter, cancel, layers }
    }

    /// The settings with what `run` has recorded below everything given now: so that `status`, `verify`, `cutover`, `refresh` and
    /// `clean` need only the target (and the source where its password is needed).
    pub fn settings_of(&self, run: &Run, needs: Needs) -> Result<Settings> {
        let mut layers = self.layers.clone();
        layers.add_run(&fields(), &run.settings);
        Settings::read(&layers, needs)
    }
}
