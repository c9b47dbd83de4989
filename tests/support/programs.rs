//! Where the PostgreSQL programs are, as `scripts/env` tells it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn places() -> &'static HashMap<String, PathBuf> {
    static PLACES: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let output = Command::new("bash")
            .args(["-c", "source scripts/env && env -0"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("bash runs");
        String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| {
                name.starts_with("WALFERRY_PG_")
                    || ["WALFERRY_CACHE", "WALFERRY_DEBEZIUM", "WALFERRY_KAFKA"].contains(name)
            })
            .map(|(name, place)| (name.to_owned(), PathBuf::from(place)))
            .collect()
    })
}

/// The server programs of one major version.
pub fn server(major: u32) -> &'static Path {
    places()
        .get(&format!("WALFERRY_PG_{major}"))
        .unwrap_or_else(|| panic!("PostgreSQL {major} is not installed: run scripts/setup --all-majors"))
}

/// The majors that are there, ascending.
pub fn majors() -> Vec<u32> {
    let mut majors: Vec<u32> = places()
        .keys()
        .filter_map(|name| name.strip_prefix("WALFERRY_PG_"))
        .filter_map(|major| major.parse().ok())
        .collect();
    majors.sort_unstable();
    majors
}

/// A client program (`pg_dump`, `pg_basebackup`, `psql`, …) of the newest major.
pub fn client(name: &str) -> PathBuf {
    places().get("WALFERRY_PG_BIN").expect("client programs are installed: run scripts/setup").join(name)
}

/// The broker's folder: `libs` with its jars, `formatted` with a data folder of node 1.
pub fn kafka() -> &'static Path {
    places().get("WALFERRY_KAFKA").expect("the broker is installed: run scripts/setup --kafka")
}

/// Kafka Connect's folder: `libs` with its jars and Debezium's.
pub fn debezium() -> &'static Path {
    places().get("WALFERRY_DEBEZIUM").expect("Kafka Connect is installed: run scripts/setup --debezium")
}

/// The folder for things that outlive a test run.
pub fn cache() -> &'static Path {
    places().get("WALFERRY_CACHE").expect("scripts/env sets the cache")
}

/// A command that runs as an account the server accepts: `postgres` when the tests run as root.
///
/// `setpriv` replaces itself by the program, so the child's id is the program's own.
pub fn as_server_account(program: impl AsRef<OsStr>) -> Command {
    match server_account() {
        None => Command::new(program),
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command
                .args([format!("--reuid={uid}"), format!("--regid={gid}")])
                .args(["--clear-groups", "--"])
                .arg(program);
            command
        }
    }
}

/// User and group id of `postgres` when we are root, otherwise nothing to change.
pub fn server_account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let line = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("there is an account `postgres` (the server refuses to run as root): run scripts/setup");
    let field =
        |n: usize| line.split(':').nth(n).and_then(|id| id.parse().ok()).expect("a valid passwd line");
    Some((field(2), field(3)))
}

/// Makes `path` the server account's own.
pub fn give_to_server_account(path: &Path) {
    if let Some((uid, gid)) = server_account() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("root may chown");
    }
}
