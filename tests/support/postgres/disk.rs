//! Disks that can be filled: a tmpfs below a data folder, and a file that takes up what is left of it.
//!
//! Mounting takes root. There is no other way to fill a disk of a server without filling the machine's, so the tests that need one
//! fail elsewhere and say so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Postgres;
use crate::support::programs;

/// Moves what is in `folder` to a tmpfs of this size, mounted in its place.
pub(super) fn mount(folder: &Path, size: &str) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test fills a disk, which takes root (mount -t tmpfs): run it as root, or leave it out: scripts/test -- --skip disk"
    );
    let aside = folder.with_extension("aside");
    std::fs::rename(folder, &aside).expect("the server is not running");
    std::fs::create_dir(folder).expect("it was moved away");
    let (uid, gid) = programs::server_account().expect("root");
    let options = format!("size={size},uid={uid},gid={gid},mode=700");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder));
    run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(folder));
    std::fs::remove_dir_all(&aside).expect("it is a copy");
}

/// Takes away what was mounted below `data`.
pub(super) fn unmount(data: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(place).starts_with(data) {
            let _ = Command::new("umount").args(["-l", place]).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file that fills a disk until it is dropped.
pub struct Ballast(PathBuf);

impl Postgres {
    /// Fills the disk below `folder` of the data folder but for `leave` bytes.
    pub fn fill_disk(&self, folder: &str, leave: usize) -> Ballast {
        let path = self.data_folder().join(folder).join("ballast");
        let mut file = std::fs::File::create(&path).expect("the disk is ours");
        let block = vec![0_u8; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().expect("it is open").len();
        file.set_len(length.saturating_sub(leave as u64)).expect("it can be shortened");
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
