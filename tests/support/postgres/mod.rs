//! Real servers of any installed major, one call each.
//!
//! ```ignore
//! let source = Postgres::start(15).await;
//! let target = Postgres::builder(17).setting("max_wal_senders", "2").start().await;
//! source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
//! source.restart(Stop::Immediate).await;
//! ```
//!
//! A data folder is a copy of a template that `initdb` made once per machine (`template`), the process is ours
//! and not `pg_ctl`'s (`process`), so that it can be killed, watched and waited for.
//! `fsync` is off unless asked for: a killed server finds its pages in the kernel's cache all the same.

mod builder;
mod disk;
mod kept;
mod process;
mod session;
mod standby;
mod template;

pub use builder::Builder;
pub(crate) use builder::free_port;
pub use kept::{keep, session};
pub use process::Stop;
pub use session::{connect, connect_as, explain};

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::scratch;
use process::Process;

/// Source and target majors that everything is tested with.
pub const PAIRS: [(u32, u32); 4] = [(10, 18), (13, 17), (15, 15), (18, 15)];

/// A server and its data folder. Both are gone when it is dropped.
pub struct Postgres {
    major: u32,
    port: u16,
    /// Holds `data/`, `log` and the socket.
    folder: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// A server with `wal_level = logical`, ready to answer.
    pub async fn start(major: u32) -> Self {
        Self::builder(major).start().await
    }

    /// A source and a target, started side by side.
    pub async fn pair(source: u32, target: u32) -> (Self, Self) {
        tokio::join!(Self::start(source), Self::start(target))
    }

    pub fn builder(major: u32) -> Builder {
        Builder::new(major)
    }

    pub fn major(&self) -> u32 {
        self.major
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder of the server's socket, to be given as `host`.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The process id of the postmaster, while there is one.
    pub fn postmaster(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// For the superuser `postgres`, who needs no password.
    pub fn uri(&self, database: &str) -> String {
        self.uri_as("postgres", database)
    }

    /// `role` may be `name` or `name:password`.
    pub fn uri_as(&self, role: &str, database: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// What the URIs of the fixture's sessions begin with.
    fn sessions(&self) -> String {
        self.uri("")
    }

    /// Ends the server; `start_again` brings it back with the same port and data.
    pub async fn stop(&self, how: Stop) {
        kept::end(&self.sessions());
        let process = self.process().take();
        if let Some(process) = process {
            process.stop(how).await;
        }
    }

    /// Kills the postmaster and every backend at once, as a crash of the machine would (but for the kernel's
    /// cache, which stays).
    pub fn kill9(&self) {
        kept::end(&self.sessions());
        if let Some(process) = self.process().take() {
            process.kill9();
        }
    }

    pub async fn start_again(&self) {
        assert!(self.postmaster().is_none(), "the server is running");
        let process =
            Process::start(self.major, self.port, &self.folder).await.unwrap_or_else(|e| panic!("{e}"));
        *self.process() = Some(process);
        self.wait_ready().await;
    }

    pub async fn restart(&self, how: Stop) {
        self.stop(how).await;
        self.start_again().await;
    }

    /// Sends SIGHUP: new `pg_hba.conf`, new `ALTER SYSTEM` settings.
    pub async fn reload(&self) {
        self.sql("postgres", "SELECT pg_reload_conf()").await;
    }

    /// Puts a file, owned by the server and private to it, into the data folder (certificates, services).
    pub fn write_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.data_folder().join(name);
        template::write_private(&path, content);
        path
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(25).collect();
            eprintln!("--- the last lines of PostgreSQL {} on port {}:", self.major, self.port);
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        if let Some(process) = self.process().take() {
            process.discard();
        }
        disk::unmount(&self.data_folder());
        scratch::remove(&self.folder);
    }
}
