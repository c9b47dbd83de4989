//! The broker's process.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{programs, scratch};

pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(folder: &Path) -> Process {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .expect("the folder is ours");
        let child = Command::new("java")
            // Small and quick to start: a test sends megabytes, not gigabytes.
            .args(["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
            .arg(format!("-XX:SharedArchiveFile={}", programs::kafka().join("broker.jsa").display()))
            .arg("-cp")
            .arg(programs::kafka().join("libs").join("*"))
            .arg("kafka.Kafka")
            .arg(folder.join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle"))
            .stderr(log)
            .current_dir(folder)
            .spawn()
            .expect("java runs: scripts/setup --kafka installs it");
        scratch::watch(child.id());
        Process { child }
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.has_ended() {
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill9();
    }

    pub fn kill9(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        scratch::unwatch(self.child.id());
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}
