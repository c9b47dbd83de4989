//! A command that is running.

use std::fs::File;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use pg::Lsn;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::{Output, Status, Walferry};
use crate::support::{canary, options, scratch};

/// The shortest pause between two looks at a run's status.
const LOOK: Duration = Duration::from_millis(50);

/// The process, killed when this is dropped. Dereferences to the run, for `status` and other commands on it.
pub struct Running {
    walferry: Walferry,
    child: Child,
    id: u32,
    /// Holds `stdout` and `stderr`.
    folder: PathBuf,
}

impl Deref for Running {
    type Target = Walferry;

    fn deref(&self) -> &Walferry {
        &self.walferry
    }
}

impl Running {
    pub(super) fn start(walferry: Walferry) -> Self {
        let folder = Walferry::folder();
        let file = |name: &str| File::create(folder.join(name)).expect("the folder is ours");
        let log = match &walferry.log {
            Some(path) => {
                File::options().append(true).create(true).open(path).expect("the log can be opened")
            }
            None => file("stderr"),
        };
        let child =
            walferry.prepare(&folder).stdout(file("stdout")).stderr(log).spawn().expect("the binary runs");
        let id = child.id().expect("it has not been waited for");
        scratch::watch(id);
        Self { walferry, child, id, folder }
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.folder.join("stdout")).unwrap_or_default()
    }

    /// Waits until the run has come to this step or further.
    pub async fn wait_for_step(&mut self, step: &str) -> Status {
        self.wait_for(&format!("step {step}"), |status| status.reached(step)).await
    }

    /// Waits until everything that ended at or before `position` is applied.
    pub async fn wait_applied(&mut self, position: Lsn) -> Status {
        self.wait_for(&format!("applied_lsn {position}"), |status| status.applied() >= position).await
    }

    /// Waits until the run says that it is stopped by an error.
    pub async fn wait_for_error(&mut self) -> Status {
        self.wait_for("an error in status", |status| !status.0["error"].is_null()).await
    }

    pub async fn wait_for(&mut self, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        let deadline = begun + options::patience();
        let mut last = None;
        loop {
            // Ended first, then status: what a finished run left still counts.
            let ended = self.child.try_wait().expect("our child");
            if let Some(status) = self.try_status().await {
                if reached(&status) {
                    return status;
                }
                last = Some(status);
            }
            if let Some(ended) = ended {
                panic!("{what} was not reached, the run ended with {ended}{}", self.report(last.as_ref()));
            }
            if Instant::now() > deadline {
                panic!(
                    "{what} was not reached within {:?}{}",
                    options::patience(),
                    self.report(last.as_ref())
                );
            }
            // Each look is a process and two sessions, which takes time from what is waited for: the longer that lasts, the fewer.
            tokio::time::sleep((begun.elapsed() / 4).clamp(LOOK, 8 * LOOK)).await;
        }
    }

    /// Waits until stderr has this text.
    pub async fn wait_for_stderr(&mut self, text: &str) {
        self.wait_for_stderr_after(0, text).await;
    }

    /// Waits until stderr has this text behind its first `from` bytes.
    pub async fn wait_for_stderr_after(&mut self, from: usize, text: &str) {
        let deadline = Instant::now() + options::patience();
        let said = |stderr: String| stderr.get(from..).is_some_and(|new| new.contains(text));
        while !said(self.stderr()) {
            let ended = self.child.try_wait().expect("our child");
            let over = ended.is_some() || Instant::now() > deadline;
            assert!(!over || said(self.stderr()), "{text:?} was not said{}", self.report(None));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn wait_exit(self) -> Output {
        self.wait_exit_within(options::patience()).await
    }

    pub async fn wait_exit_within(mut self, timeout: Duration) -> Output {
        match tokio::time::timeout(timeout, self.child.wait()).await {
            Ok(status) => Output {
                code: code(status.expect("our child")),
                stdout: self.stdout(),
                stderr: self.stderr(),
            },
            Err(_) => {
                panic!("{:?} did not end within {timeout:?}{}", self.walferry.command, self.report(None))
            }
        }
    }

    /// The most memory the process has held so far, in bytes; 0 once it has ended (a process that was not waited for yet has a status
    /// without memory).
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kilobytes * 1024
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Ends it as a crash would and returns when it is gone.
    pub async fn kill9(mut self) -> Output {
        self.child.kill().await.expect("it can be killed");
        self.wait_exit().await
    }

    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    pub fn sigint(&self) {
        self.signal(Signal::INT);
    }

    /// Returns when none of its threads runs any more: the signal comes to each of them in its own time.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !stands_still(self.id) {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
    }

    pub fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // Until it is waited for, its id is nobody else's.
        if let Some(id) = self.child.id() {
            let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
            let _ = kill_process(pid, signal);
        }
    }

    fn report(&self, status: Option<&Status>) -> String {
        let status = status.map_or_else(|| "none".to_owned(), |s| format!("{:#}", s.0));
        format!("\n--- status\n{status}\n--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let stderr = self.stderr();
            let lines: Vec<&str> = stderr.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {:?}, the last lines of its stderr:\n{}", self.walferry.command, last.join("\n"));
        }
        let _ = self.child.start_kill();
        for (what, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            canary::expect_none(&format!("{what} of {:?}", self.walferry.command), &text);
        }
        // A device has no end.
        if let Some(log) = self.walferry.log.as_ref().filter(|log| log.is_file()) {
            canary::expect_none("the log", &std::fs::read_to_string(log).unwrap_or_default());
        }
        scratch::unwatch(self.id);
        scratch::remove(&self.folder);
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Every thread of the process is stopped, or has ended (man 5 proc_pid_stat).
fn stands_still(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}
