//! Minor versions with known bugs in logical decoding.

use pg::ServerVersion;

/// First minor release without the bugs that concern us. Through 16.9, 15.13 and their like, invalidations that logical decoding hands on
/// between transactions multiply until memory is refused; below 17.5, 16.9, 15.13 DDL beside open transactions can lose changes
/// silently. <https://www.postgresql.org/docs/release/>
const FLOORS: [(u32, u32); 5] = [(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)];

/// The minor version to upgrade to; None: nothing is known against this one.
pub(super) fn wanted(version: ServerVersion) -> Option<ServerVersion> {
    FLOORS
        .iter()
        .find(|(major, minor)| version.major() == *major && version.minor() < *minor)
        .map(|(major, minor)| ServerVersion(major * 10_000 + minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_minor_versions_are_named() {
        assert_eq!(wanted(ServerVersion(150_013)), Some(ServerVersion(150_014)));
        for fine in [150_014, 170_010, 180_000, 100_023] {
            assert_eq!(wanted(ServerVersion(fine)), None);
        }
    }
}
