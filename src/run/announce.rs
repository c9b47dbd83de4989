//! `walferry write` tells a reader on another host, through Kafka alone, which slot to read and for which run.
//!
//! Not before the slot is on the record: until then it may be dropped and made anew. From there on the topics take the WAL's place, so that
//! the source need not keep it for the length of the copy.

use std::time::Duration;

use kafka::{Admin, Announcement, Tail};
use pg::{Class, Lsn, QualifiedName, Result};
use pipeline::envelope::{self, Encoder};
use tokio::task::JoinSet;
use writer::control::{Progress, Run, RunTable};

use super::context::Context;
use super::lag::Found;
use super::owner::Owner;
use super::{monitor, topics};

const AGAIN: Duration = Duration::from_secs(2);

/// Announces beside the copy; brokers that are away don't hold it up. Ends with this.
pub struct Announcing(#[allow(dead_code)] JoinSet<()>);

impl Announcing {
    pub async fn begin(context: &Context, owner: &Owner, run: &Run) -> Result<Announcing> {
        let what = Announce::of(context, owner, run).await?;
        let reporter = context.reporter.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Err(error) = what.once().await {
                reporter.blocked(&error);
                if matches!(error.class(), Class::Refuse | Class::Usage | Class::Failed) {
                    // The stream asks again, and ends the run with it.
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Ok(Announcing(task))
    }
}

/// Announces now, if the topics don't say the same already.
pub async fn now(context: &Context, owner: &Owner, run: &Run, publications: &[String]) -> Result<()> {
    let mut what = Announce::of(context, owner, run).await?;
    publications.clone_into(&mut what.announcement.publications);
    what.once().await
}

/// Waits until the reader streams these publications, if it streams others: what is copied next is fed from its copy on, so that what is
/// committed after that has to be among the events. A reader that starts later asks first.
pub async fn followed(context: &Context, owner: &Owner, run: &Run, publications: &[String]) -> Result<()> {
    now(context, owner, run, publications).await?;
    let options = topics::options(&context.settings)?;
    let mut told = false;
    loop {
        let streamed = Tail::read(&options).await?.streamed;
        if streamed.is_none_or(|streamed| streamed.publications == publications) {
            return Ok(());
        }
        if !told {
            told = true;
            let waiting = format!("waits for walferry read to stream {}", publications.join(", "));
            context.reporter.note(&waiting);
            Run::set_live(
                owner.session(),
                &run.name,
                &monitor::live(None, vec![waiting], Vec::new(), Found::default()),
            )
            .await?;
        }
        tokio::select! {
            () = context.cancel.cancelled() => return context.not_cancelled(),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

struct Announce {
    options: kafka::Options,
    envelope: envelope::Options,
    names: Vec<QualifiedName>,
    announcement: Announcement,
    position: Lsn,
}

impl Announce {
    async fn of(context: &Context, owner: &Owner, run: &Run) -> Result<Announce> {
        let mut specs = Vec::new();
        for table in RunTable::all(owner.session(), &run.name).await? {
            if table.left_at.is_none() {
                specs.push(table.spec()?.clone());
            }
        }
        let progress = Progress::read(owner.session(), &run.name).await?;
        Ok(Announce {
            options: topics::options(&context.settings)?,
            envelope: topics::envelope_options(&context.settings, run)?,
            names: topics::streamed(&specs),
            announcement: Announcement {
                timeline: run.source.as_ref().and_then(|source| u32::try_from(source.timeline).ok()),
                ..Announcement::new(&run.slot, run.publications.clone())
            },
            position: progress.map_or(run.slot_lsn.unwrap_or_default(), |progress| progress.end_lsn),
        })
    }

    async fn once(&self) -> Result<()> {
        let tail = Tail::read(&self.options).await?;
        tail.check(&self.options.prefix, &self.envelope.system_identifier, &self.envelope.run_id)?;
        let encoder = Encoder::new(self.envelope.clone());
        Admin::new(&self.options)?.ensure(encoder.topics(), &self.names).await?;
        // Where the topics have lost their end, the target's is said anew.
        let known = tail.origin();
        if known.as_ref().is_some_and(|known| known.same_origin(&self.announcement))
            && tail.position() >= Some(self.position)
        {
            return Ok(());
        }
        let (snapshot, form) = known.map_or((None, None), |known| (known.snapshot, known.form));
        let announcement = Announcement { snapshot, form, ..self.announcement.clone() };
        announcement.send(&self.options, encoder, self.position).await
    }
}
