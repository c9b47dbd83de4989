//! A network that fails on demand: a TCP proxy between the program and a server.
//!
//! ```ignore
//! let proxy = Proxy::to(&target).await;
//! let run = Walferry::new(&source.uri("app"), &proxy.uri("app"));
//! proxy.lose_reply(b"COMMIT");       // the server commits, the program never hears of it
//! proxy.stall(Direction::Down, true); // bytes pile up, the connection stays open
//! proxy.cut();                        // every connection is reset
//! ```
//!
//! All settings count from now on for open connections as well as new ones. The proxy reads bytes, not TLS.

mod pump;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Postgres;
use super::postgres::free_port;

/// Up is from the program to the server, down the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// What one direction does to its bytes.
#[derive(Clone, Copy, Default)]
struct Lane {
    stalled: bool,
    dropping: bool,
    latency: Duration,
    bytes_per_second: Option<u64>,
}

/// Which bytes from the program make the server's answer get lost.
#[derive(Clone)]
struct LoseReply {
    pattern: Vec<u8>,
    /// Matches still to be let through.
    skip: u64,
}

/// A byte that is to be changed on its way: `offset` bytes from where the pattern begins.
#[derive(Clone)]
struct Corrupt {
    direction: Direction,
    pattern: Vec<u8>,
    offset: isize,
    byte: u8,
}

#[derive(Clone, Default)]
struct Control {
    lanes: [Lane; 2],
    refusing: bool,
    lose_reply: Option<LoseReply>,
    corrupt: Option<Corrupt>,
    cut: CancellationToken,
}

#[derive(Default)]
struct Counters {
    bytes: [AtomicU64; 2],
    accepted: AtomicU64,
    open: AtomicU64,
    lost_replies: AtomicU64,
    corrupted: AtomicU64,
}

struct Shared {
    server: (String, u16),
    control: watch::Sender<Control>,
    counters: Counters,
}

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn to(server: &Postgres) -> Self {
        Self::start("127.0.0.1", server.port()).await
    }

    pub async fn start(host: &str, port: u16) -> Self {
        let shared = Arc::new(Shared {
            server: (host.to_owned(), port),
            control: watch::Sender::new(Control::default()),
            counters: Counters::default(),
        });
        let (announce, mut listening) = watch::channel(false);
        let port = free_port();
        let task = tokio::spawn(listen(port, Arc::clone(&shared), announce));
        listening.wait_for(|listening| *listening).await.expect("the proxy listens");
        Self { port, shared, listening, task }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's address through the proxy, for its superuser.
    pub fn uri(&self, database: &str) -> String {
        self.uri_as("postgres", database)
    }

    pub fn uri_as(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Resets every open connection on both sides. New ones are let in.
    pub fn cut(&self) {
        self.shared.control.send_modify(|control| std::mem::take(&mut control.cut).cancel());
    }

    /// Stops or starts listening, so that a new connection is refused by the system. Open ones stay.
    pub async fn refuse(&self, refuse: bool) {
        self.shared.control.send_modify(|control| control.refusing = refuse);
        let mut listening = self.listening.clone();
        listening.wait_for(|listening| *listening != refuse).await.expect("the proxy lives");
    }

    /// Stops reading: the connection stays open, and the sender blocks once the buffers are full.
    pub fn stall(&self, direction: Direction, stall: bool) {
        self.lane(direction, |lane| lane.stalled = stall);
    }

    /// Half-open: what comes is taken and thrown away, the sender notices nothing. A connection that lost
    /// bytes is broken for good: `cut` before mending.
    pub fn drop_bytes(&self, direction: Direction, drop: bool) {
        self.lane(direction, |lane| lane.dropping = drop);
    }

    pub fn latency(&self, direction: Direction, latency: Duration) {
        self.lane(direction, |lane| lane.latency = latency);
    }

    pub fn throttle(&self, direction: Direction, bytes_per_second: Option<u64>) {
        self.lane(direction, |lane| lane.bytes_per_second = bytes_per_second);
    }

    /// Once: the next message with these bytes reaches the server, which acts on it, but its answer is lost and
    /// the program's connection is reset instead.
    pub fn lose_reply(&self, to: &[u8]) {
        self.lose_reply_after(to, 0);
    }

    /// As `lose_reply`, but the first `skip` matches get their answers.
    pub fn lose_reply_after(&self, to: &[u8], skip: u64) {
        let lose = LoseReply { pattern: to.to_vec(), skip };
        self.shared.control.send_modify(|control| control.lose_reply = Some(lose));
    }

    /// Once: where these bytes come along, in one piece, the byte that lies `offset` from their beginning becomes another one.
    pub fn corrupt(&self, direction: Direction, pattern: &[u8], offset: isize, byte: u8) {
        let corrupt = Corrupt { direction, pattern: pattern.to_vec(), offset, byte };
        self.shared.control.send_modify(|control| control.corrupt = Some(corrupt));
    }

    /// Bytes changed so far.
    pub fn corrupted(&self) -> u64 {
        self.shared.counters.corrupted.load(Ordering::SeqCst)
    }

    /// Replies lost so far.
    pub fn lost_replies(&self) -> u64 {
        self.shared.counters.lost_replies.load(Ordering::SeqCst)
    }

    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.counters.bytes[direction as usize].load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.counters.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.shared.counters.open.load(Ordering::SeqCst)
    }

    /// Waits for something the counters tell, for example `|p| p.lost_replies() == 1`.
    pub async fn wait_until(&self, what: &str, timeout: Duration, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + timeout;
        while !reached(self) {
            assert!(Instant::now() < deadline, "the proxy did not see {what} within {timeout:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn lane(&self, direction: Direction, change: impl FnOnce(&mut Lane)) {
        self.shared.control.send_modify(|control| change(&mut control.lanes[direction as usize]));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn listen(port: u16, shared: Arc<Shared>, announce: watch::Sender<bool>) {
    let mut control = shared.control.subscribe();
    loop {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the proxy's port is free");
        announce.send_replace(true);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    tokio::spawn(serve(client, Arc::clone(&shared)));
                }
                refusing = control.wait_for(|control| control.refusing) => {
                    if refusing.is_err() { return }
                    break;
                }
            }
        }
        drop(listener);
        announce.send_replace(false);
        if control.wait_for(|control| !control.refusing).await.is_err() {
            return;
        }
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    shared.counters.accepted.fetch_add(1, Ordering::SeqCst);
    shared.counters.open.fetch_add(1, Ordering::SeqCst);
    let cut = shared.control.borrow().cut.clone();
    let (host, port) = &shared.server;
    match TcpStream::connect((host.as_str(), *port)).await {
        Ok(server) => pump::run(client, server, &shared, cut).await,
        // The server is down: the program sees a connection that ends at once.
        Err(_) => drop(client),
    }
    shared.counters.open.fetch_sub(1, Ordering::SeqCst);
}
