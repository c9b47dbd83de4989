//! What a reader has to know about a run, told through Kafka alone: the slot, the publications, and (in every heartbeat) run and source.
//!
//! A writer makes the slot and announces it; a reader on another host finds it in the heartbeat topic. The reader's own heartbeats repeat
//! it, so that it does not age with the topic. An announcement has no [`AFTER`](crate::sink::AFTER): it is no position of the stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pg::{Error, Lsn, Result};
use pipeline::envelope::{Encoder, header};

use crate::form::Form;
use crate::options::Options;
use crate::rows::Rows;

/// How long the brokers may take to have it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the events of a prefix come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    pub slot: String,
    pub publications: Vec<String>,
    /// What a reader has written before its stream.
    pub snapshot: Option<Written>,
    /// The source's timeline, as far as it is known.
    pub timeline: Option<u32>,
    /// None: whoever announced this writes none.
    pub form: Option<Form>,
    /// Made by a reader itself, for whoever reads the topics: no target is fed.
    pub feed: bool,
}

/// The rows of a snapshot among the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// Some of them, unless it is still at work.
    Begun,
    /// All, as of this position.
    At(Lsn),
}

impl Announcement {
    #[must_use]
    pub fn new(slot: impl Into<String>, publications: Vec<String>) -> Announcement {
        Announcement {
            slot: slot.into(),
            publications,
            snapshot: None,
            timeline: None,
            form: None,
            feed: false,
        }
    }

    /// Takes the form that this stream writes.
    ///
    /// # Errors
    /// `Refuse`: what is in the topics has another one.
    pub fn take_form(&mut self, form: Form, prefix: &str) -> Result<()> {
        if let Some(other) = self.form.as_ref().filter(|other| **other != form) {
            return Err(Error::refuse(
                "KAFKA_OTHER_RUN",
                format!("the topics of prefix \"{prefix}\" hold events of another form"),
            )
            .detail(format!("they have {other}, and this would write {form}"))
            .hint("give --schemas, --no-tombstones and capture.topic_… as before, or another --prefix"));
        }
        self.form = Some(form);
        Ok(())
    }

    /// Do both name the same slot and publications?
    #[must_use]
    pub fn same_origin(&self, other: &Announcement) -> bool {
        self.slot == other.slot && self.publications == other.publications
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let publications = serde_json::to_vec(&self.publications).unwrap_or_default();
        let mut headers = vec![
            (header::SLOT.to_owned(), self.slot.clone().into_bytes()),
            (header::PUBLICATIONS.to_owned(), publications),
        ];
        let snapshot = self.snapshot.map(|snapshot| match snapshot {
            Written::Begun => BEGUN.to_owned(),
            Written::At(lsn) => lsn.to_string(),
        });
        headers.extend(snapshot.map(|text| (header::SNAPSHOT.to_owned(), text.into_bytes())));
        let timeline = self.timeline.map(|timeline| timeline.to_string().into_bytes());
        headers.extend(timeline.map(|text| (header::TIMELINE.to_owned(), text)));
        let form = self.form.as_ref().and_then(|form| serde_json::to_vec(form).ok());
        headers.extend(form.map(|form| (header::FORM.to_owned(), form)));
        headers.extend(self.feed.then(|| (header::FEED.to_owned(), b"true".to_vec())));
        headers
    }

    pub(crate) fn read(text: impl Fn(&str) -> Option<String>) -> Option<Announcement> {
        let publications = serde_json::from_str(&text(header::PUBLICATIONS)?).ok()?;
        let snapshot = text(header::SNAPSHOT).and_then(|text| {
            if text == BEGUN { Some(Written::Begun) } else { text.parse().ok().map(Written::At) }
        });
        let timeline = text(header::TIMELINE).and_then(|text| text.parse().ok());
        let feed = text(header::FEED).is_some();
        // One that can't be read may be any other: then none of it counts.
        let form = match text(header::FORM) {
            Some(text) => Some(serde_json::from_str(&text).ok()?),
            None => None,
        };
        Some(Announcement { slot: text(header::SLOT)?, publications, snapshot, timeline, form, feed })
    }

    /// Sends it; returns when the brokers have it. `position`: where the target stands. The topic has to be there.
    pub async fn send(&self, options: &Options, encoder: Encoder, position: Lsn) -> Result<()> {
        let rows = Rows::start(options, encoder, Default::default())?;
        match tokio::time::timeout(PATIENCE, rows.finish(self, position)).await {
            Ok(sent) => sent,
            Err(_) => {
                Err(Error::connection("Kafka: the run could not be announced in time").with_code("KAFKA"))
            }
        }
    }
}

const BEGUN: &str = "begun";

pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    i64::try_from(now).unwrap_or(i64::MAX)
}
