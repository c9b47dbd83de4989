//! The loop between the walsender and the carrier. Invariants: module docs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pg::{Error, Lsn, Result};
use pipeline::{ChangeSink, Chunk, Event};
use tokio_util::sync::CancellationToken;

use super::feedback::Feedback;
use super::gather::{self, Gather};
use super::options::Options;
use crate::pgoutput::Decoder;
use crate::replication::{ReplicationMessage, ReplicationStream};

/// Messages between two looks at the clock and at `cancel` while the server never pauses.
const LOOK_EVERY: u32 = 256;
/// What is taken out of the socket at a time while there is no room for it in the carrier, and in all: enough for an hour.
const SIP: usize = 16 * 1024;
const SIPS: usize = 64 * 1024 * 1024;
/// … and how often; more often where the server is impatient, because it is to hear from us in between.
const SIP_EVERY: Duration = Duration::from_secs(1);
/// How long the server may take to let the slot go.
const FINISH: Duration = Duration::from_secs(2);

pub(super) struct Pump<S> {
    options: Options,
    stream: ReplicationStream,
    feedback: Feedback,
    sink: S,
    decoder: Decoder,
    gather: Gather,
    chunk: Chunk,
    /// The transaction at hand ended before `start`.
    skipping: bool,
    /// End of the last transaction in `chunk` or before; what [`Feedback::durable`] must reach until nothing is pending.
    sent: Lsn,
    /// End of the last transaction that the carrier has taken.
    taken: Lsn,
    /// Position of the last keepalive, if nothing was received since.
    idle: Option<Lsn>,
    /// Messages since the last look around.
    messages: u32,
}

/// Why the loop ended without an error.
struct Cancelled;

impl<S: ChangeSink> Pump<S> {
    pub(super) fn new(options: Options, stream: ReplicationStream, feedback: Feedback, sink: S) -> Self {
        let start = options.start;
        let buffer = if options.gather { stream.gather_in(gather::BUFFER) } else { 0 };
        let gather = Gather::new(buffer, Instant::now());
        Pump {
            options,
            stream,
            feedback,
            sink,
            decoder: Decoder::new(),
            gather,
            chunk: Chunk::default(),
            skipping: false,
            sent: start,
            taken: start,
            idle: None,
            messages: 0,
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) -> Result<()> {
        let Cancelled = self.stream_until(&cancel).await?;
        let Pump { mut stream, mut feedback, sink, options, taken, .. } = self;
        // The far end sees the end of the stream, commits what is whole and acknowledges it.
        drop(sink);
        feedback.settle(taken, options.drain).await;
        feedback.tell(&mut stream).await?;
        stream.finish(FINISH).await;
        Ok(())
    }

    async fn stream_until(&mut self, cancel: &CancellationToken) -> Result<Cancelled> {
        loop {
            let message = match self.stream.try_recv()? {
                Some(message) => message,
                None => {
                    // The server pauses: hand on what there is, then wait.
                    self.offer_idle();
                    if !self.chunk.is_empty() {
                        if self.deliver(cancel).await?.is_break() {
                            return Ok(Cancelled);
                        }
                        continue;
                    }
                    let busy = self.sink.is_busy();
                    if let Some(rest) = self.gather.rest(self.stream.received(), busy, Instant::now()) {
                        // The thread is ours (`super::thread`): nothing else waits for it.
                        std::thread::sleep(rest);
                        self.messages = LOOK_EVERY;
                        // The kernel is asked before this task runs again.
                        tokio::task::yield_now().await;
                        continue;
                    }
                    self.look_at_notices();
                    let (since, received) = (Instant::now(), self.stream.received());
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Ok(Cancelled),
                        due = self.feedback.due() => {
                            due?;
                            self.feedback.tell(&mut self.stream).await?;
                            continue;
                        }
                        message = self.stream.recv() => {
                            self.feedback.heard();
                            self.gather.waited(since, received, Instant::now());
                            message?
                        }
                    }
                }
            };
            match message {
                Some(ReplicationMessage::XLogData(body)) => {
                    self.feedback.receive(body.start.max(body.end));
                    self.idle = None;
                    self.gather.message();
                    if let Some(event) = self.decoder.decode(body.data)? {
                        if let Event::Begin { committed_at, .. } = event {
                            self.gather.begins(committed_at, body.sent_at);
                        }
                        self.take(event)?;
                    }
                }
                Some(ReplicationMessage::Keepalive { end, reply }) => self.keepalive(end, reply).await?,
                None => {
                    return Err(Error::connection("the source has ended the stream: it is shutting down"));
                }
            }
            self.messages += 1;
            if self.messages >= LOOK_EVERY {
                self.messages = 0;
                self.feedback.heard();
                if cancel.is_cancelled() {
                    return Ok(Cancelled);
                }
                if self.feedback.is_due() {
                    self.feedback.tell(&mut self.stream).await?;
                }
            }
            if self.chunk.bytes >= self.options.chunk_bytes && self.deliver(cancel).await?.is_break() {
                return Ok(Cancelled);
            }
        }
    }

    async fn keepalive(&mut self, end: Lsn, reply: bool) -> Result<()> {
        self.feedback.receive(end);
        self.feedback.heard();
        if !self.decoder.in_transaction() {
            self.idle = Some(end);
            self.options.position.send_if_modified(|now| {
                let moved = end > now.received;
                now.received = now.received.max(end);
                moved
            });
        }
        if reply { self.feedback.tell(&mut self.stream).await } else { Ok(()) }
    }

    /// Puts an event into the chunk, unless the far end has it already.
    fn take(&mut self, event: Event) -> Result<()> {
        match &event {
            // Records don't overlap: a commit record that starts before an end LSN ends there at the latest.
            Event::Begin { commit_lsn, .. } => self.skipping = *commit_lsn < self.options.start,
            Event::Commit { end_lsn, committed_at, .. } => {
                let (end, committed_at) = (*end_lsn, *committed_at);
                if self.skipping {
                    self.skipping = false;
                    return self.skipped(end);
                }
                self.sent = self.sent.max(end);
                self.options.position.send_modify(|now| {
                    now.received = now.received.max(end);
                    now.committed_at = committed_at;
                });
            }
            Event::Message { transactional, lsn, prefix, .. } => {
                let asked = self.options.message_prefixes.iter().any(|asked| **asked == **prefix);
                let wanted = self.options.all_messages || asked;
                if !wanted || (!transactional && *lsn < self.options.start) {
                    return Ok(());
                }
                if !transactional {
                    self.chunk.push(event);
                    return Ok(());
                }
            }
            Event::Change(_) | Event::Idle { .. } => {}
        }
        if !self.skipping {
            self.chunk.push(event);
        }
        Ok(())
    }

    /// A transaction was left out; its end proves that this was right.
    fn skipped(&self, end: Lsn) -> Result<()> {
        let start = self.options.start;
        if end <= start {
            return Ok(());
        }
        Err(Error::refuse(
            "STREAM_POSITION",
            format!("the transaction that ends at {end} begins its commit before {start}, the end of the last one applied"),
        )
        .hint("the source is not the one that the run was started with, or its WAL was rewound; start a new run"))
    }

    /// With nothing pending, the server's position goes the same way as a transaction.
    fn offer_idle(&mut self) {
        let Some(lsn) = self.idle else { return };
        let pending = self.sent > self.options.start && self.feedback.durable().applied < self.sent;
        if pending || self.decoder.in_transaction() || !self.chunk.is_empty() {
            return;
        }
        self.idle = None;
        if lsn > self.sent {
            self.sent = lsn;
            self.chunk.push(Event::Idle { lsn });
        }
    }

    /// Hands the chunk to the carrier; goes on with feedback while there is no room.
    ///
    /// A socket that is full to the brim is deaf: a segment that comes when there is no memory left for it is dropped with the acknowledgement
    /// in it (seen with Linux 6.18 and a buffer of fixed size). What we tell the server is then sent again and again, until it gives up, or the
    /// kernel does (`tcp_user_timeout`). So a little is taken out of it from time to time, up to a limit.
    async fn deliver(&mut self, cancel: &CancellationToken) -> Result<ControlFlow<()>> {
        let mut taken_in = 0;
        let every = SIP_EVERY.min(self.feedback.interval() / 2);
        let mut sip = tokio::time::Instant::now() + every;
        let send = std::pin::pin!(self.sink.send(std::mem::take(&mut self.chunk)));
        let mut send = send;
        loop {
            tokio::select! {
                biased;
                sent = &mut send => {
                    sent?;
                    break;
                }
                // What is not taken is not acknowledged, and comes again.
                () = cancel.cancelled() => return Ok(ControlFlow::Break(())),
                due = self.feedback.due() => {
                    due?;
                    // It is not listened to, so its silence says nothing. One that is gone does not take what it is told
                    // (`tcp_user_timeout`).
                    self.feedback.heard();
                    self.feedback.tell(&mut self.stream).await?;
                }
                () = tokio::time::sleep_until(sip), if taken_in < SIPS => {
                    taken_in += self.stream.take_in(SIP)?;
                    sip = tokio::time::Instant::now() + every;
                }
            }
        }
        self.taken = self.sent;
        self.feedback.heard();
        Ok(ControlFlow::Continue(()))
    }

    /// From 18 on a publication that did not exist at a WAL position is only a warning, and its changes are missing.
    fn look_at_notices(&mut self) {
        for notice in self.stream.take_notices() {
            if notice.severity == "WARNING" {
                let hint = "the source did not publish the WAL since then: compare with walferry verify";
                self.options.reporter.warning(format!("source: {}", notice.message), Some(hint.to_owned()));
            }
        }
    }
}
