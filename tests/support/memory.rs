//! A control group whose processes get no more memory than a limit: past it the kernel kills, as it does in a container.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// The limit counts what processes take once they are in it.
    pub fn new(limit: u64) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes a control group, which takes root: run it as root, or leave it out: scripts/test -- --skip group"
        );
        // Version 1 has a tree of its own for memory, version 2 one for everything.
        let first = Path::new(ROOT).join("memory");
        let (tree, setting) = if first.is_dir() {
            (first, "memory.limit_in_bytes")
        } else {
            (PathBuf::from(ROOT), "memory.max")
        };
        let folder = tree.join(format!("walferry-e2e.{}", std::process::id()));
        fs::create_dir(&folder).expect("control groups can be made");
        let group = Self(folder);
        group.set(setting, &limit.to_string());
        group
    }

    pub fn take(&self, process: u32) {
        self.set("cgroup.procs", &process.to_string());
    }

    fn set(&self, name: &str, value: &str) {
        let file = self.0.join(name);
        fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever is left is the test's own, and killed by its own fixture.
        let parent = self.0.parent().unwrap_or(Path::new(ROOT));
        for process in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(parent.join("cgroup.procs"), process);
        }
        let _ = fs::remove_dir(&self.0);
    }
}
