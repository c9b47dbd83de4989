//! What each SQLSTATE means for a run, in one table.
//!
//! Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use crate::error::Class;

pub const UNIQUE_VIOLATION: &str = "23505";
pub const EXCLUSION_VIOLATION: &str = "23P01";
pub const NOT_NULL_VIOLATION: &str = "23502";
pub const DUPLICATE_OBJECT: &str = "42710";
pub const UNDEFINED_OBJECT: &str = "42704";
pub const UNDEFINED_TABLE: &str = "42P01";
pub const UNDEFINED_COLUMN: &str = "42703";
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
pub const OBJECT_IN_USE: &str = "55006";
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
pub const READ_ONLY_SQL_TRANSACTION: &str = "25006";

/// Retry soon, or say so and wait. The list of retry-soon codes is short: everything unknown waits for a person.
#[must_use]
pub fn class_of(sqlstate: &str) -> Class {
    match sqlstate {
        // Deadlock and serialization failures are over as soon as the other side has finished.
        "40P01" | "40001" => Class::Connection,
        // The server is going down, starting up, or has ended this session.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04" => Class::Connection,
        // No slot for a connection at the moment, or the walsender of before is still there.
        "53300" | OBJECT_IN_USE => Class::Connection,
        code if code.starts_with("08") => Class::Connection,
        // Wrong password, no pg_hba entry, no such database: nothing changes by itself.
        "28P01" | "28000" | "3D000" => Class::Refuse,
        _ => Class::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_class() {
        for (code, class) in [
            ("40P01", Class::Connection),
            ("40001", Class::Connection),
            ("57P01", Class::Connection),
            ("57P03", Class::Connection),
            ("08006", Class::Connection),
            ("53300", Class::Connection),
            ("55006", Class::Connection),
            ("28P01", Class::Refuse),
            ("28000", Class::Refuse),
            ("3D000", Class::Refuse),
            ("23505", Class::Stop),
            ("42501", Class::Stop),
            ("55P03", Class::Stop),
            ("53100", Class::Stop),
            ("XX000", Class::Stop),
        ] {
            assert_eq!(class_of(code), class, "{code}");
        }
    }
}
