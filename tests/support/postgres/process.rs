//! The postmaster as a child process of the test.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{programs, scratch};

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends all sessions in order, lets walsenders finish, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
}

pub struct Process {
    child: Child,
}

impl Process {
    /// Starts the server; the error has what it logged if it gave up at once.
    pub async fn start(major: u32, port: u16, folder: &Path) -> Result<Self, String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let log_path = folder.join("log");
            let log =
                OpenOptions::new().create(true).append(true).open(&log_path).expect("the folder is ours");
            let before = log.metadata().map_or(0, |m| m.len()) as usize;
            let child = programs::as_server_account(programs::server(major).join("postgres"))
                .arg("-D")
                .arg(folder.join("data"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a file handle"))
                .stderr(log)
                .env_remove("PGDATA")
                .env("LC_ALL", "C.UTF-8")
                .current_dir(folder)
                .spawn()
                .expect("the server program runs");
            scratch::watch(child.id());
            let mut process = Self { child };
            let Some(status) = process.ended_before_answering(port).await else {
                return Ok(process);
            };
            scratch::unwatch(process.id());
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let said = log.get(before..).unwrap_or_default().to_owned();
            // What a killed predecessor leaves goes away with its last child.
            let predecessor = said.contains("pre-existing shared memory") || said.contains("lock file");
            if !predecessor || Instant::now() > deadline {
                return Err(format!("PostgreSQL {major} ended with {status}:\n{said}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the port accepts a connection (then `None`) or the process has ended.
    async fn ended_before_answering(&mut self, port: u16) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return Some(status);
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub async fn stop(mut self, how: Stop) {
        self.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait().expect("our child").is_none() {
            assert!(Instant::now() < deadline, "the server did not stop ({how:?}) within 60 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        scratch::unwatch(self.id());
    }

    pub fn kill9(mut self) {
        let backends = children(self.id());
        self.signal(Signal::KILL);
        for pid in backends {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
        scratch::unwatch(self.id());
    }

    /// Ends a server nobody needs any more. Not by SIGKILL at first: that would leave its shared memory.
    pub fn discard(mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::QUIT);
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                self.kill9();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        scratch::unwatch(self.id());
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(pid(self.id()), signal);
    }
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id")
}

fn children(of: u32) -> Vec<Pid> {
    std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|id| id.parse().ok().and_then(Pid::from_raw))
        .collect()
}
