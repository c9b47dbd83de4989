//! A network of the test's own: a namespace in which the program runs, with one cable to each server.
//!
//! A cable that is pulled answers nothing: no reset, no "unreachable", unlike a proxy that closes its sockets. It takes root and
//! iproute2, which `scripts/setup` installs; there is no other way to pull a cable, so the tests that need one fail elsewhere and say so.
//!
//! ```text
//!   host 10.231.n.1 ══ veth ══ 10.231.n.2   namespace, walferry   10.231.n.6 ══ veth ══ 10.231.n.5 host
//!      source                                                                               target
//! ```

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Postgres;

/// One of the two cables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    Source,
    Target,
}

pub struct Network {
    namespace: String,
    number: u8,
}

/// The setting that lets a server be reached over a cable.
pub const EVERYWHERE: (&str, &str) = ("listen_addresses", "*");
/// And the line of pg_hba.conf.
pub const LET_IN: &str = "host all all 10.231.0.0/16 trust";

impl Network {
    pub fn new() -> Network {
        assert!(
            rustix::process::geteuid().is_root() && ip(&["-V"]).is_ok(),
            "this test pulls a network cable, which takes root and network namespaces: run it as root on Linux with iproute2 \
             (scripts/setup installs it), or leave it out: scripts/test -- --skip cable"
        );
        remove_abandoned();
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // Test processes beside this one have numbers of their own, as a rule; a number that is taken is passed over.
        for _ in 0..u8::MAX {
            let own = (std::process::id() % 251) as u8;
            let number = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7));
            let namespace = format!("walferry-{}-{number}", std::process::id());
            must(&["netns", "add", &namespace]);
            let network = Network { namespace, number };
            if network.lay(Cable::Source).is_ok() {
                network.wire();
                return network;
            }
        }
        panic!("no free network number");
    }

    fn lay(&self, cable: Cable) -> Result<(), String> {
        let outer = cable.outer(self.number);
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", cable.inner(), "netns", &self.namespace])
    }

    fn wire(&self) {
        let name = self.namespace.as_str();
        self.lay(Cable::Target).expect("both cables have one number");
        must(&["-n", name, "link", "set", "lo", "up"]);
        for cable in [Cable::Source, Cable::Target] {
            let outer = cable.outer(self.number);
            must(&["addr", "add", &format!("{}/30", cable.server(self.number)), "dev", &outer]);
            must(&["link", "set", &outer, "up"]);
            must(&[
                "-n",
                name,
                "addr",
                "add",
                &format!("{}/30", cable.program(self.number)),
                "dev",
                cable.inner(),
            ]);
            must(&["-n", name, "link", "set", "dev", cable.inner(), "up"]);
        }
    }

    /// Its name, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The server's address over this cable.
    pub fn uri(&self, cable: Cable, server: &Postgres, database: &str) -> String {
        format!(
            "postgresql://postgres@{}:{}/{database}?sslmode=disable",
            cable.server(self.number),
            server.port()
        )
    }

    /// The servers' end loses its carrier: what is sent goes nowhere, and nothing comes.
    pub fn pull(&self, cable: Cable) {
        must(&["link", "set", &cable.outer(self.number), "down"]);
    }

    pub fn plug(&self, cable: Cable) {
        must(&["link", "set", &cable.outer(self.number), "up"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for cable in [Cable::Source, Cable::Target] {
            let _ = ip(&["link", "del", &cable.outer(self.number)]);
        }
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

impl Cable {
    fn outer(self, number: u8) -> String {
        let letter = if self == Cable::Source { 's' } else { 't' };
        format!("wf{letter}{number}")
    }

    fn inner(self) -> &'static str {
        if self == Cable::Source { "source" } else { "target" }
    }

    fn server(self, number: u8) -> String {
        format!("10.231.{number}.{}", if self == Cable::Source { 1 } else { 5 })
    }

    fn program(self, number: u8) -> String {
        format!("10.231.{number}.{}", if self == Cable::Source { 2 } else { 6 })
    }
}

/// Namespaces of test processes that were killed.
fn remove_abandoned() {
    for name in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        let mut parts = name.strip_prefix("walferry-").unwrap_or_default().split('-');
        if let (Some(pid), Some(_)) = (parts.next(), parts.next())
            && !std::path::Path::new(&format!("/proc/{pid}")).exists()
        {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn must(arguments: &[&str]) {
    if let Err(said) = ip(arguments) {
        panic!("ip {}: {said}", arguments.join(" "));
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
