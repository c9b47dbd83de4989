//! The two byte streams of one proxied connection, in one task: what is decided in one lane is seen by the
//! other before it moves another byte.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Control, Direction, Shared};

struct Chunk {
    bytes: Vec<u8>,
    due: Instant,
    /// Its reply is to be lost.
    loses_reply: bool,
}

struct Connection<'a> {
    shared: &'a Shared,
    /// The bytes whose reply is to be lost have reached the server.
    losing: AtomicBool,
    /// That reply has come.
    reply_lost: CancellationToken,
}

/// Forwards until both sides have ended, the connection is cut, or a reply is to be lost.
pub(super) async fn run(
    mut client: TcpStream,
    mut server: TcpStream,
    shared: &Shared,
    cut: CancellationToken,
) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let reply_lost = CancellationToken::new();
    {
        let connection =
            Connection { shared, losing: AtomicBool::new(false), reply_lost: reply_lost.clone() };
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let lanes = async {
            tokio::join!(
                connection.lane(Direction::Up, client_in, server_out),
                connection.lane(Direction::Down, server_in, client_out),
            )
        };
        tokio::select! {
            () = cut.cancelled() => {}
            () = reply_lost.cancelled() => {}
            _ = lanes => return,
        }
    }
    let _ = client.set_zero_linger();
    drop(client);
    if reply_lost.is_cancelled() {
        drain(&mut server).await;
        shared.counters.lost_replies.fetch_add(1, Ordering::SeqCst);
    } else {
        let _ = server.set_zero_linger();
    }
}

/// Lets the server finish what it was sent: a reset could make it forget the unread part.
async fn drain(server: &mut TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(Ok(read)) = tokio::time::timeout(Duration::from_millis(300), server.read(&mut buffer)).await
    {
        if read == 0 {
            break;
        }
    }
}

impl Connection<'_> {
    async fn lane(&self, direction: Direction, from: ReadHalf<'_>, to: WriteHalf<'_>) {
        // Bounded, so that a slow lane holds its sender back as a slow network does.
        let (send, receive) = mpsc::channel(64);
        tokio::join!(self.read(direction, from, send), self.write(direction, receive, to));
    }

    async fn read(&self, direction: Direction, mut from: ReadHalf<'_>, send: mpsc::Sender<Chunk>) {
        let mut control = self.shared.control.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        let mut tail = Vec::new();
        loop {
            not_stalled(&mut control, direction).await;
            let Ok(read) = from.read(&mut buffer).await else { return };
            if read == 0 {
                return;
            }
            let mut bytes = buffer[..read].to_vec();
            self.corrupt(direction, &mut bytes);
            self.shared.counters.bytes[direction as usize].fetch_add(read as u64, Ordering::SeqCst);
            let loses_reply = direction == Direction::Up && self.loses_reply(&mut tail, &bytes);
            let lane = self.shared.control.borrow().lanes[direction as usize];
            if lane.dropping {
                continue;
            }
            let chunk = Chunk { bytes, due: Instant::now() + lane.latency, loses_reply };
            if send.send(chunk).await.is_err() {
                return;
            }
        }
    }

    async fn write(&self, direction: Direction, mut chunks: mpsc::Receiver<Chunk>, mut to: WriteHalf<'_>) {
        let mut control = self.shared.control.subscribe();
        while let Some(chunk) = chunks.recv().await {
            tokio::time::sleep_until(chunk.due).await;
            not_stalled(&mut control, direction).await;
            if direction == Direction::Down && self.losing.load(Ordering::SeqCst) {
                self.reply_lost.cancel();
                return;
            }
            let rate = self.shared.control.borrow().lanes[direction as usize].bytes_per_second;
            // In small pieces, or a slow lane would deliver rarely and much.
            let piece = rate.map_or(chunk.bytes.len(), |rate| (rate as usize / 20).max(1));
            for part in chunk.bytes.chunks(piece) {
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
                }
                if to.write_all(part).await.is_err() {
                    return;
                }
            }
            if chunk.loses_reply {
                self.losing.store(true, Ordering::SeqCst);
            }
        }
        let _ = to.shutdown().await;
    }

    /// Changes the byte that was asked for, if it is in this chunk.
    fn corrupt(&self, direction: Direction, bytes: &mut [u8]) {
        self.shared.control.send_if_modified(|control| {
            let Some(corrupt) = control.corrupt.as_ref().filter(|corrupt| corrupt.direction == direction)
            else {
                return false;
            };
            let found =
                bytes.windows(corrupt.pattern.len().max(1)).position(|window| window == corrupt.pattern);
            let Some(byte) =
                found.and_then(|at| at.checked_add_signed(corrupt.offset)).and_then(|at| bytes.get_mut(at))
            else {
                return false;
            };
            *byte = corrupt.byte;
            control.corrupt = None;
            self.shared.counters.corrupted.fetch_add(1, Ordering::SeqCst);
            true
        });
    }

    /// Whether this chunk, with the end of the ones before it, completes the pattern whose reply is to be lost.
    fn loses_reply(&self, tail: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let mut loses = false;
        self.shared.control.send_if_modified(|control| {
            let Some(lose) = &mut control.lose_reply else {
                tail.clear();
                return false;
            };
            let length = lose.pattern.len().max(1);
            tail.extend_from_slice(bytes);
            let matches = tail.windows(length).filter(|window| *window == lose.pattern).count() as u64;
            tail.drain(..(tail.len() + 1).saturating_sub(length));
            loses = matches > lose.skip;
            if loses {
                control.lose_reply = None;
            } else {
                lose.skip -= matches;
            }
            loses
        });
        loses
    }
}

async fn not_stalled(control: &mut watch::Receiver<Control>, direction: Direction) {
    let _ = control.wait_for(|control| !control.lanes[direction as usize].stalled).await;
}
