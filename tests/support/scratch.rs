//! One temporary folder per test process, and a watcher that clears up after it.
//!
//! A test that is killed runs no destructor, and a forgotten server would keep its port and its memory. So a
//! small shell outside of our process group reads from a pipe whose other end only we hold; when we are gone,
//! it ends every process recorded under `pids/` and removes the folder.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Scratch {
    folder: PathBuf,
    _watcher: Child,
}

const WATCHER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for pid in "$1"/pids/*; do
    [ -e "$pid" ] || continue
    pid=$(basename "$pid")
    kill -CONT "$pid" 2>/dev/null
    kill -QUIT "$pid" 2>/dev/null
done
[ -n "$(ls "$1"/pids)" ] && sleep 1
for pid in "$1"/pids/*; do
    [ -e "$pid" ] && kill -KILL "$(basename "$pid")" 2>/dev/null
done
grep -o " $1/[^ ]* " /proc/mounts | while read -r mounted; do umount -l "$mounted"; done
[ -n "$WALFERRY_TEST_KEEP" ] && exit
# A copy of a data folder may still be under way.
for _ in 1 2 3 4 5; do
    rm -rf "$1" 2>/dev/null && exit
    sleep 1
done
"#;

fn scratch() -> &'static Scratch {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("walferry-e2e.{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("pids")).expect("the temporary folder is writable");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh runs");
        Scratch { folder, _watcher: watcher }
    })
}

/// A new empty folder, `<what>-<number>`.
pub fn folder(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = scratch().folder.join(format!("{what}-{number}"));
    std::fs::create_dir(&folder).expect("the temporary folder is writable");
    folder
}

/// Removes a folder unless WALFERRY_TEST_KEEP asks to keep what a failed test left.
pub fn remove(folder: &Path) {
    if std::env::var_os("WALFERRY_TEST_KEEP").is_none() {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// From here on the process is ended with us.
pub fn watch(pid: u32) {
    std::fs::write(scratch().folder.join("pids").join(pid.to_string()), "").expect("the folder is writable");
}

/// The process has ended, its id may be somebody else's from now on.
pub fn unwatch(pid: u32) {
    let _ = std::fs::remove_file(scratch().folder.join("pids").join(pid.to_string()));
}
