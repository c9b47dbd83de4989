//! `migrate --cutover auto`: hands over as soon as the target has caught up, and again when that was rolled back.
//!
//! Writers that stand in the way today may be gone in a minute; each attempt makes writers queue for a moment, so that they are spaced,
//! the longer the more of them failed.

use std::time::{Duration, Instant};

use pg::Result;
use tokio_postgres::Client;
use writer::control::{Mode, Request, RequestKind, Step};

use crate::config::CutoverMode;
use crate::output;
use crate::run::context::Context;

const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// The attempts of one process.
pub(super) struct Auto {
    state: State,
    failed: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A person chooses the moment.
    Off,
    Due(Instant),
    Asked(i64),
}

impl Auto {
    pub(super) fn new(context: &Context) -> Auto {
        let wanted = context.mode == Mode::Migrate && context.settings.cutover.mode == CutoverMode::Auto;
        Auto { state: if wanted { State::Due(Instant::now()) } else { State::Off }, failed: 0 }
    }

    pub(super) async fn ask_when_due(
        &mut self,
        context: &Context,
        client: &Client,
        run: &str,
        step: Step,
    ) -> Result<()> {
        let State::Due(at) = self.state else { return Ok(()) };
        if step < Step::Live || Instant::now() < at {
            return Ok(());
        }
        // One that somebody else has asked for, or that an earlier connection of ours left, comes first.
        if Request::open(client, run).await?.iter().any(|request| request.kind == RequestKind::Cutover) {
            return Ok(());
        }
        if self.failed > 0 {
            context.reporter.note(format!("cutover: attempt {}", self.failed + 1));
        }
        let args = serde_json::json!({"auto": true});
        self.state = State::Asked(Request::ask(client, run, RequestKind::Cutover, &args).await?);
        Ok(())
    }

    /// The request `id` was answered, and the target is not open.
    pub(super) fn ended(&mut self, context: &Context, id: i64) {
        if self.state != State::Asked(id) {
            return;
        }
        self.failed += 1;
        let pause = pause(self.failed, context.settings.cutover.retry_max);
        self.state = State::Due(Instant::now() + pause);
        context.reporter.note(format!("cutover: tried again in {}", output::duration(pause)));
    }

    /// For `status`.
    pub(super) fn waiting(&self) -> Vec<String> {
        match self.state {
            State::Due(at) if self.failed > 0 => {
                let left = at.saturating_duration_since(Instant::now());
                vec![format!(
                    "{} cutover(s) were rolled back; the next attempt is in {}",
                    self.failed,
                    output::duration(left)
                )]
            }
            _ => Vec::new(),
        }
    }
}

/// 30 s, twice as long after each that failed, up to `longest`.
fn pause(failed: u32, longest: Duration) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let seconds = |longest: u64| {
            (1..7)
                .map(move |failed| pause(failed, Duration::from_secs(longest)).as_secs())
                .collect::<Vec<_>>()
        };
        assert_eq!(seconds(600), [30, 60, 120, 240, 480, 600]);
        assert_eq!(seconds(1), [1, 1, 1, 1, 1, 1]);
        assert_eq!(pause(u32::MAX, Duration::from_secs(600)).as_secs(), 600);
    }
}
