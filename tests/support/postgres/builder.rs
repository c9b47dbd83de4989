//! What a server can be asked to be before it starts.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::Process;
use super::{Postgres, template};
use crate::support::{programs, scratch};

pub struct Builder {
    major: u32,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    databases: Vec<String>,
    /// A folder of the data folder that is a file system of its own, and its size.
    disk: Option<(String, String)>,
}

impl Builder {
    pub(super) fn new(major: u32) -> Self {
        Self { major, settings: Vec::new(), hba: Vec::new(), databases: Vec::new(), disk: None }
    }

    /// A line of postgresql.conf; the last one of a name wins. `ALTER SYSTEM` still overrides it.
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Durable as in production, for tests in which what was not flushed must be lost.
    pub fn fsync(self) -> Self {
        self.setting("fsync", "on").setting("full_page_writes", "on")
    }

    /// A line put before the default ones of pg_hba.conf, which trust everybody. The superuser `postgres` is
    /// let in before it.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Gives a folder of the data folder (`base`, `pg_wal`) a file system of its own, of this size (`200m`), which can be filled.
    pub fn disk(mut self, folder: &str, size: &str) -> Self {
        self.disk = Some((folder.to_owned(), size.to_owned()));
        self
    }

    /// A database to be created.
    pub fn database(mut self, name: &str) -> Self {
        self.databases.push(name.to_owned());
        self
    }

    pub async fn start(self) -> Postgres {
        let major = self.major;
        let folder = server_folder(major);
        let data = folder.join("data");
        let copy = (data.clone(), folder.clone());
        tokio::task::spawn_blocking(move || template::copy(major, &copy.0)).await.expect("the copy ends");
        if let Some((name, size)) = &self.disk {
            super::disk::mount(&data.join(name), size);
        }
        if !self.hba.is_empty() {
            let default = std::fs::read_to_string(data.join("pg_hba.conf")).expect("initdb wrote it");
            let ours =
                format!("local all postgres trust\nhost all postgres all trust\n{}\n", self.hba.join("\n"));
            template::write_private(&data.join("pg_hba.conf"), &(ours + &default));
        }
        let server = Self::launch(major, folder, &self.settings).await;
        for database in &self.databases {
            server.create_database(database).await;
        }
        server
    }

    /// Starts a server over a data folder that is there, on a port that is free.
    pub(super) async fn launch(major: u32, folder: PathBuf, settings: &[(String, String)]) -> Postgres {
        let mut last = String::new();
        for _ in 0..20 {
            let port = free_port();
            write_settings(&folder, port, settings);
            match Process::start(major, port, &folder).await {
                Ok(process) => {
                    let server = Postgres { major, port, folder, process: Mutex::new(Some(process)) };
                    server.wait_ready().await;
                    return server;
                }
                // Another process took the port between our look and the server's.
                Err(e) if e.contains("Address already in use") => last = e,
                Err(e) => panic!("{e}"),
            }
        }
        panic!("{last}")
    }
}

pub(super) fn server_folder(major: u32) -> PathBuf {
    let folder = scratch::folder(&format!("pg{major}"));
    programs::give_to_server_account(&folder);
    folder
}

fn write_settings(folder: &Path, port: u16, settings: &[(String, String)]) {
    let mut text = format!(
        "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n",
        folder.display()
    );
    text.push_str(DEFAULTS);
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    template::write_private(&folder.join("data").join("fixture.conf"), &text);
}

/// Autovacuum comes by each database: a shared server has hundreds, and would start a process for one of them several times a second.
const DEFAULTS: &str = "
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_prepared_transactions = 20
max_connections = 100
shared_buffers = 32MB
fsync = off
full_page_writes = off
max_wal_size = 256MB
autovacuum_naptime = 1h
logging_collector = off
log_line_prefix = '%m [%p] %q%a %u@%d '
log_replication_commands = on
lc_messages = 'C'
";

/// A port nobody listens on, below the range from which outgoing connections take theirs: a server that is
/// down must find its port free when it comes back.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 17_000;
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT)
}
