//! A server's version as a number.

use std::fmt;

/// `server_version_num`: 150018 is 15.18.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }

    #[must_use]
    pub const fn minor(self) -> u32 {
        self.0 % 10_000
    }

    /// From `server_version` as every server reports it at start-up: `15.18 (Debian …)`, `19devel`, `17beta1`.
    #[must_use]
    pub fn parse(server_version: &str) -> Option<ServerVersion> {
        let mut numbers = server_version.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.split('.');
        let major: u32 = numbers.next()?.parse().ok()?;
        let minor: u32 = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if major < 10 {
            // 9.6.24 is 90624.
            let patch: u32 = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            return Some(ServerVersion(major * 10_000 + minor.min(99) * 100 + patch.min(99)));
        }
        major.checked_mul(10_000)?.checked_add(minor.min(9_999)).map(ServerVersion)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_server_version_is_read() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(150_018)),
            ("18.4", Some(180_004)),
            ("10.23", Some(100_023)),
            ("19devel", Some(190_000)),
            ("17beta1", Some(170_000)),
            ("9.6.24", Some(90_624)),
            ("?", None),
        ] {
            assert_eq!(ServerVersion::parse(text), number.map(ServerVersion), "{text}");
        }
    }
}
