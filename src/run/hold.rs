//! The fence of a comparison: both sides at one exact point while the stream goes on.
//!
//! ```text
//! asker                                   request row        running process
//! ask                                     requested
//!                                         held          ◄──  the writer has finished its transaction and keeps none open
//! temporary slot: snapshot of source at X at(X)
//!                                         reached       ◄──  every commit before X is applied, nothing else
//! snapshot of target                      released
//! compare …                                             ◄──  the writer goes on
//! ```
//!
//! X is never behind the writer, because the slot is made only while it holds. An asker that dies lets its lease run out.

use std::convert::Infallible;
use std::time::Duration;

use pg::{Error, Lsn, Purpose, Result, Session};
use reader::slot::{self, CreateOptions, ExportedSlot};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_postgres::Client;
use writer::apply::{Command, Handle};
use writer::control::{Progress, Request, RequestKind, RequestState};

use super::context::Context;
use super::topics;
use crate::config::Via;

const POLL: Duration = Duration::from_millis(50);

/// The running process's part.
pub async fn serve(client: &Client, run: &str, handle: &Handle, request: &Request) -> Result<()> {
    let result = held(client, run, handle, request).await;
    // Whatever happened, the writer goes on.
    let _ = handle.commands.send(Command::Release).await;
    result
}

async fn held(client: &Client, run: &str, handle: &Handle, request: &Request) -> Result<()> {
    ask(handle, Command::Hold).await?;
    Request::advance(client, run, request.id, RequestState::Held, None, None).await?;
    let mut reached = false;
    loop {
        let Some(now) = Request::read(client, request.id).await? else { return Ok(()) };
        match now.state {
            RequestState::Released | RequestState::Done | RequestState::Failed => return Ok(()),
            _ if now.expired => {
                let result = json!({"message": "the asker has gone"});
                return Request::advance(client, run, request.id, RequestState::Failed, None, Some(&result))
                    .await;
            }
            RequestState::At if !reached => {
                let lsn: Lsn = now.args["lsn"]
                    .as_str()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| Error::failed("REQUEST", "a verify request has no LSN"))?;
                if !run_to(client, handle, request, lsn).await? {
                    continue;
                }
                Request::advance(client, run, request.id, RequestState::Reached, None, None).await?;
                reached = true;
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// Waits until everything before `lsn` is applied; false: nobody waits for that any more.
async fn run_to(client: &Client, handle: &Handle, request: &Request, lsn: Lsn) -> Result<bool> {
    let mut reaching = std::pin::pin!(ask(handle, |reply| Command::RunTo(lsn, reply)));
    loop {
        tokio::select! {
            reached = &mut reaching => return reached.map(|()| true),
            () = tokio::time::sleep(POLL * 4) => {}
        }
        let open = Request::read(client, request.id).await?;
        if open.is_none_or(|now| now.expired || now.state != RequestState::At) {
            return Ok(false);
        }
    }
}

/// Sends a command and waits until it is so.
pub async fn ask(handle: &Handle, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<()> {
    let gone = |()| Error::connection("the writer has ended");
    let (reply, answer) = oneshot::channel();
    handle.commands.send(command(reply)).await.map_err(|_| gone(()))?;
    answer.await.map_err(|_| gone(()))
}

/// Both sides at one point. The snapshots live as long as this does.
pub struct Sides {
    pub lsn: Lsn,
    pub source_snapshot: String,
    pub target_snapshot: String,
    _slot: ExportedSlot,
    _target: Session,
}

/// The asker's part, from any host.
pub async fn sides(context: &Context, client: &Client) -> Result<Sides> {
    match sides_unless(context, client, std::future::pending::<Infallible>()).await? {
        Ok(sides) => Ok(sides),
        Err(never) => match never {},
    }
}

/// The same as long as the process that holds does not end: `Ok(Err(_))` is how it did, and nobody waits for the point any more.
pub async fn sides_unless<T>(
    context: &Context,
    client: &Client,
    ends: impl Future<Output = T>,
) -> Result<std::result::Result<Sides, T>> {
    let run = &context.name;
    let id = Request::ask(client, run, RequestKind::Verify, &json!({})).await?;
    let result = tokio::select! {
        result = both(context, client, id) => result.map(Ok),
        ended = ends => Ok(Err(ended)),
        away = brokers_away(context, client), if context.settings.run.via == Via::Kafka => {
            Err(away.with_class(pg::Class::Unverifiable))
        }
    };
    let state = if matches!(result, Ok(Ok(_))) { RequestState::Released } else { RequestState::Failed };
    Request::advance(client, run, id, state, None, None).await?;
    result
}

/// One attempt to make the slot holds the writer up; then it is let go and asked again.
const HOLD: Duration = Duration::from_secs(10);

async fn both(context: &Context, client: &Client, id: i64) -> Result<Sides> {
    let run = &context.name;
    wait_for(client, id, RequestState::Held).await?;
    let options = CreateOptions { application_name: run.clone(), wait: HOLD, failover: false };
    let slot = slot::create_temporary(&context.source, run, &options, |_| {}).await?;
    let lsn = slot.consistent_point;
    Request::advance(client, run, id, RequestState::At, Some(&json!({"lsn": lsn.to_string()})), None).await?;
    tokio::select! {
        reached = wait_for(client, id, RequestState::Reached) => reached?,
        missing = no_reader(context, LOOK) => return Err(missing.with_class(pg::Class::Unverifiable)),
    }
    let (target, target_snapshot) = export(&context.target, run).await?;
    Ok(Sides { lsn, source_snapshot: slot.snapshot.clone(), target_snapshot, _slot: slot, _target: target })
}

/// How often it is looked whether the slot is read, and how often it may not be: a reader that reconnects is back by then.
const LOOK: Duration = Duration::from_secs(4);
const LOOKS: u32 = 4;

/// Ends when nobody has read the slot for [`LOOKS`] looks, each so long after the one before: what is missing up to the point would never come.
pub async fn no_reader(context: &Context, pause: Duration) -> Error {
    let mut unread = 0;
    while unread < LOOKS {
        tokio::time::sleep(pause).await;
        match slot_is_read(context).await {
            Ok(false) => unread += 1,
            _ => unread = 0,
        }
    }
    nobody_reads(context)
}

/// Ends when for [`LOOKS`] looks no broker has answered and the target has come no further: what is missing up to the point is still in the
/// reader, or in topics that can't be read. A run that commits meanwhile, although they don't answer here, is waited for.
async fn brokers_away(context: &Context, client: &Client) -> Error {
    let (mut away, mut stood) = (0, None);
    loop {
        tokio::time::sleep(LOOK).await;
        let stands = Progress::read(client, &context.name).await.ok().flatten().map(|progress| progress.seq);
        match topics::answer(&context.settings, LOOK).await {
            Err(error) if error.class() == pg::Class::Connection && stands == stood => {
                away += 1;
                if away >= LOOKS {
                    return error.context("the target can't come to the point that was chosen");
                }
            }
            _ => away = 0,
        }
        stood = stands;
    }
}

/// Does anybody stream the run's slot now?
pub async fn slot_is_read(context: &Context) -> Result<bool> {
    let source = context.source_session().await?;
    let sql =
        "SELECT coalesce((SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1), false)";
    Ok(source.query_one(sql, &[&context.settings.slot_name()]).await?.get(0))
}

/// The other half is missing.
pub fn nobody_reads(context: &Context) -> Error {
    let name = &context.name;
    let error = Error::failed("NO_READER", format!("nobody reads slot \"{}\"", context.settings.slot_name()));
    match context.settings.run.via {
        Via::Kafka => error.hint(format!(
            "start walferry read --name {name}, which brings the changes into the topics; then try again"
        )),
        Via::Direct => error.hint(format!("start run \"{name}\" again, then try again")),
    }
}

/// A session that holds a snapshot of the target and has exported it.
pub async fn export(params: &pg::Params, run: &str) -> Result<(Session, String)> {
    let session = Session::connect(params, Purpose::Query, &format!("{run} (verify)")).await?;
    session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let row = session.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await?;
    let snapshot = row.get(0);
    Ok((session, snapshot))
}

async fn wait_for(client: &Client, id: i64, state: RequestState) -> Result<()> {
    let mut polls = 0u32;
    loop {
        let request = Request::read(client, id)
            .await?
            .ok_or_else(|| Error::new(pg::Class::Unverifiable, "REQUEST_GONE", "the request has vanished"))?;
        if request.state == state {
            return Ok(());
        }
        if request.state == RequestState::Failed {
            let message = request.result.and_then(|result| result["message"].as_str().map(str::to_owned));
            return Err(Error::new(
                pg::Class::Unverifiable,
                "NOT_HELD",
                message.unwrap_or_else(|| "the running process could not hold".to_owned()),
            ));
        }
        polls += 1;
        if polls.is_multiple_of(100) {
            Request::renew(client, id).await?;
        }
        tokio::time::sleep(POLL).await;
    }
}
