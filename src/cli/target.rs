//! Commands about a run that exists: they start at the target.

use pg::{Error, Purpose, Result, Session};
use writer::control::Run;

use super::Context;

/// A session on the target for `command`, and the run; without one, exit code 4.
pub async fn existing_run(context: &Context, command: &str) -> Result<(Session, Run)> {
    let name = context.settings.name();
    let session = connect(context, command).await?;
    match Run::read(&session, name).await? {
        Some(run) => Ok((session, run)),
        None => Err(Error::refuse("NO_SUCH_RUN", format!("there is no run \"{name}\" in this target"))
            .hint("the run's --name and the --target that it writes to are needed")),
    }
}

/// A session on the target for `command`.
pub async fn connect(context: &Context, command: &str) -> Result<Session> {
    let application_name = format!("{} ({command})", context.settings.name());
    Session::connect(&context.settings.target()?, Purpose::TargetControl, &application_name)
        .await
        .map_err(|error| error.context("target"))
}
