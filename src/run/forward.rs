//! Both sides of a run that is stopped, at one point: this process takes the run, applies up to that point, and stops again.

use pg::{Class, Error, Purpose, Result, Session};
use writer::control::{Run, Step};

use super::context::Context;
use super::hold::{self, Sides};
use super::limit::Retained;
use super::live::{self, End};
use super::owner::Owner;
use super::retry::Backoff;

/// Brings a stopped run forward to a point X and returns both sides there. `context.cancel` ends the stream that does it, so it has to be
/// a token of this call's own.
///
/// # Errors
/// `Unverifiable` when the tables are not copied yet; `OWNED_BY` when the run is not stopped.
pub async fn sides_of_stopped(context: &Context) -> Result<Sides> {
    let mut owner = Owner::take(context, None).await?;
    let run = Run::read(owner.session(), &context.name).await?.ok_or_else(|| {
        Error::refuse("NO_RUN", format!("there is no run \"{}\" on this target", context.name))
    })?;
    if run.step < Step::Catchup {
        return Err(Error::new(
            Class::Unverifiable,
            "NOT_COPIED",
            format!("run \"{}\" is stopped in step {}: its tables are not whole yet", run.name, run.step),
        )
        .hint("start it again with the command that it was started with, and verify when it is live"));
    }
    let asker =
        Session::connect(&context.target, Purpose::TargetControl, &format!("{} (verify)", run.name)).await?;
    let mut backoff = Backoff::new(context.settings.retry.connection_max, context.settings.retry.blocked_max);
    let retained = Retained::default();
    loop {
        let mut stream = Box::pin(live::stream(context, &mut owner, &run, &mut backoff, &retained));
        let sides = match hold::sides_unless(context, &asker, &mut stream).await? {
            Ok(sides) => sides,
            // It goes on in another way: as text, for example, where a table does not take binary values.
            Err(Ok(End::Refresh)) => continue,
            Err(Ok(End::Cancelled | End::CutOver)) => {
                return Err(Error::new(Class::Unverifiable, "INTERRUPTED", "interrupted"));
            }
            Err(Err(error)) => return Err(error),
        };
        context.cancel.cancel();
        // The snapshots stand: how the stream ends doesn't change them.
        if let Err(error) = stream.await {
            tracing::debug!("the stream ended with {error}");
        }
        return Ok(sides);
    }
}
