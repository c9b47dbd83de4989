//! When to leave a socket alone for a moment, so that the server sends many messages at once.
//!
//! A walsender hands each message to its kernel by itself. Where the receiver is on the same host and takes each at once, each becomes a
//! segment with an acknowledgement and a wake-up of its own, which costs the source more than decoding does. While the socket's buffer is
//! full they are put together. So, while the server sends without a pause, we keep that buffer small and come by when it is full
//! (docs/decisions/0012-gather.md).

use std::time::{Duration, Instant};

use pipeline::PgTimestamp;

/// Asked for as the socket's buffer. The kernel takes twice that: in many small segments it holds half of it and, once they are put
/// together, nearly all.
pub(super) const BUFFER: usize = 64 * 1024;
/// A server that has sent this many messages without a pause goes on sending …
const FLOWING: u32 = 64;
/// … and it is worth gathering above this rate.
const BYTES_PER_MICROSECOND: u64 = 8;
/// A wait that is longer is a pause.
const PAUSE: Duration = Duration::from_millis(1);
const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(12);
/// What was committed so many microseconds ago is late anyway …
const LATE: i64 = 1_000_000;
/// … and may wait this long for its buffer to be full, however slowly it comes.
const LONGEST_LATE: Duration = Duration::from_millis(50);

/// Counts what arrives, and finds out how long to rest.
pub(super) struct Gather {
    /// Bytes that are there after a rest that was long enough; zero: never rest.
    full: u64,
    rest: Duration,
    /// When the server last began to send, and how much had arrived by then.
    began: (Instant, u64),
    /// Messages since then.
    messages: u32,
    /// Bytes that had arrived when the present rest began.
    resting: Option<u64>,
    /// What arrives was committed long ago.
    late: bool,
}

impl Gather {
    /// `buffer`: the socket's, with the kernel's book-keeping.
    pub(super) fn new(buffer: usize, now: Instant) -> Gather {
        // More than it holds in small segments: it is full, and the server was made to put them together.
        // Some connections hold a hair less than two thirds of it then, so it is not that.
        let full = buffer as u64 * 5 / 8;
        Gather { full, rest: PAUSE, began: (now, 0), messages: 0, resting: None, late: false }
    }

    pub(super) fn message(&mut self) {
        self.messages = self.messages.saturating_add(1);
    }

    /// A transaction begins to arrive. Both times are the server's.
    pub(super) fn begins(&mut self, committed_at: PgTimestamp, sent_at: PgTimestamp) {
        self.late = sent_at.0.saturating_sub(committed_at.0) >= LATE;
    }

    /// Nothing is there, after `received` bytes in all: how long to rest before looking again. None: wait until something arrives. `busy`:
    /// whoever takes the messages is not done with those of before.
    pub(super) fn rest(&mut self, received: u64, busy: bool, now: Instant) -> Option<Duration> {
        if self.full == 0 || self.messages < FLOWING {
            return None;
        }
        let (since, before) = match self.resting {
            Some(before) => (self.rest, before),
            None => (now - self.began.0, self.began.1),
        };
        let arrived = received - before;
        // A buffer that was found full says nothing of the rate: the server may have stood still for lack of room.
        let full = self.resting.is_some() && arrived >= self.full;
        let slow = u128::from(arrived) < u128::from(BYTES_PER_MICROSECOND) * since.as_micros();
        if !full && slow && !(self.late && arrived > 0) {
            if busy && arrived > 0 {
                // Too slow to fill the buffer. But each message on its own would be a wake-up for nothing.
                self.rest = PAUSE;
                self.resting = Some(received);
                return Some(PAUSE);
            }
            self.restart(received, now);
            return None;
        }
        if self.resting.is_some() {
            // Towards the rest after which it is just full, and rather too long than too short: below, each message costs again.
            self.rest = if arrived < self.full { self.rest * 5 / 4 } else { self.rest * 63 / 64 };
        }
        self.rest = self.rest.clamp(SHORTEST, if self.late { LONGEST_LATE } else { LONGEST });
        self.resting = Some(received);
        Some(self.rest)
    }

    /// Something has arrived after a wait that began at `since`, when `received` bytes had.
    pub(super) fn waited(&mut self, since: Instant, received: u64, now: Instant) {
        self.resting = None;
        if now - since >= PAUSE {
            self.restart(received, now);
        }
    }

    fn restart(&mut self, received: u64, now: Instant) {
        self.began = (now, received);
        self.messages = 0;
        self.resting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER: u64 = 131_072;

    struct Server {
        gather: Gather,
        now: Instant,
        received: u64,
    }

    impl Server {
        fn new(buffer: u64) -> Server {
            let now = Instant::now();
            Server { gather: Gather::new(buffer as usize, now), now, received: 0 }
        }

        fn sends(&mut self, messages: u32, bytes: u64, within: Duration) {
            (0..messages).for_each(|_| self.gather.message());
            self.received += bytes;
            self.now += within;
        }

        /// Rests again and again while it sends so many bytes a microsecond, until the buffer `holds` no more.
        fn settles(&mut self, rounds: u32, rate: u64, holds: u64) -> Duration {
            self.sends(FLOWING, 10_000, Duration::from_micros(500));
            let mut rest = self.rest().unwrap();
            for _ in 0..rounds {
                let bytes = u64::try_from(rest.as_micros()).unwrap() * rate;
                self.sends(100, bytes.min(holds), rest);
                rest = self.rest().unwrap();
            }
            rest
        }

        fn rest(&mut self) -> Option<Duration> {
            self.gather.rest(self.received, false, self.now)
        }
    }

    #[test]
    fn it_rests_until_the_buffer_is_just_full() {
        // Five eighths of it in 2.0 ms.
        let rest = Server::new(BUFFER).settles(200, 40, BUFFER);
        assert!((2_000..2_800).contains(&rest.as_micros()), "{rest:?}");
    }

    /// As seen with rows of 300 bytes: it was rested ever longer for what takes 2 ms to arrive.
    #[test]
    fn a_buffer_that_holds_87040_bytes_is_full_with_them() {
        let rest = Server::new(BUFFER).settles(200, 40, 87_040);
        assert!((2_000..2_800).contains(&rest.as_micros()), "{rest:?}");
    }

    #[test]
    fn after_the_longest_rest_a_full_buffer_is_no_pause() {
        // As long as it holds, below what the longest rest would have to bring.
        let rest = Server::new(BUFFER).settles(50, 8, BUFFER * 2 / 3);
        assert!(rest > Duration::from_millis(10), "{rest:?}");
    }

    #[test]
    fn a_server_that_sends_little_is_read_at_once() {
        let mut server = Server::new(BUFFER);
        server.sends(FLOWING - 1, 50_000, Duration::from_millis(1));
        assert_eq!(server.rest(), None, "few messages");
        server.sends(1, 100, Duration::from_millis(10));
        assert_eq!(server.rest(), None, "few bytes");
        server.sends(FLOWING, 50_000, Duration::from_millis(1));
        let rest = server.rest().unwrap();
        server.sends(6, 600, rest);
        assert_eq!(server.rest(), None, "few bytes after a rest");
        server.sends(FLOWING - 1, 50_000, Duration::from_millis(1));
        assert_eq!(server.rest(), None, "it has to flow again");
    }

    #[test]
    fn a_server_that_sends_little_is_left_alone_while_its_messages_could_not_be_taken() {
        let mut server = Server::new(BUFFER);
        for _ in 0..3 {
            server.sends(FLOWING, 1_000, Duration::from_millis(1));
            assert_eq!(server.gather.rest(server.received, true, server.now), Some(PAUSE));
        }
        server.sends(1, 100, Duration::from_millis(1));
        assert_eq!(server.rest(), None, "they can be taken");
        server.sends(FLOWING, 1_000, Duration::from_millis(1));
        assert_eq!(server.gather.rest(server.received, true, server.now), Some(PAUSE));
        server.now += PAUSE;
        assert_eq!(server.gather.rest(server.received, true, server.now), None, "nothing has come");
    }

    #[test]
    fn what_was_committed_long_ago_waits_for_a_full_buffer_however_slowly_it_comes() {
        let mut server = Server::new(BUFFER);
        server.sends(FLOWING, 2_000, Duration::from_millis(1));
        server.gather.begins(PgTimestamp(5_000_000), PgTimestamp(5_900_000));
        assert_eq!(server.rest(), None, "it is not late");
        server.gather.begins(PgTimestamp(5_000_000), PgTimestamp(6_000_000));
        // 2 MB a second: five eighths of the buffer in 41 ms.
        let rest = server.settles(200, 2, BUFFER);
        assert!((40_000..=50_000).contains(&rest.as_micros()), "{rest:?}");
        server.now += rest;
        assert_eq!(server.rest(), None, "nothing has come");
        server.gather.begins(PgTimestamp(i64::MAX), PgTimestamp(i64::MIN));
        server.sends(FLOWING, 2_000, Duration::from_millis(1));
        assert_eq!(server.rest(), None, "it has caught up");
    }

    #[test]
    fn a_pause_ends_it() {
        let mut server = Server::new(BUFFER);
        server.sends(FLOWING, 50_000, Duration::from_millis(1));
        let since = server.now;
        server.now += PAUSE;
        server.gather.waited(since, server.received, server.now);
        server.sends(6, 50_000, Duration::from_micros(100));
        assert_eq!(server.rest(), None);
    }

    #[test]
    fn without_a_buffer_of_a_known_size_it_never_rests() {
        let mut server = Server::new(0);
        server.sends(1000, 1_000_000, Duration::from_millis(1));
        assert_eq!(server.rest(), None);
    }
}
