//! The settings every session is pinned to.
//!
//! `ALTER ROLE … SET` and `ALTER DATABASE … SET` can change any default under us, on any reconnect. Values must look the same on both
//! sides and at every time, so each session says what it needs. What every server from 10 on knows goes into the start-up packet, where
//! it wins over `options` of the connection string; the rest is SET once the version is known.

use crate::ServerVersion;

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Questions to either side: catalogs, status.
    Query,
    /// Source: copy workers, the snapshot keeper, the walsender. A row that row security would hide is an error, not a gap.
    SourceSnapshot,
    /// Source: the fence of a cutover, whose COMMIT must survive a crash.
    SourceFence,
    /// Target: schema `walferry`.
    TargetControl,
    /// Target: the apply and load connections.
    TargetApply,
    /// Target: schema, indexes, constraints, as the tables' owner.
    TargetAdmin,
}

/// Settings for the start-up packet: known to every server from 10 on, allowed to every role.
const EVERYWHERE: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("search_path", "pg_catalog"),
    ("lc_monetary", "C"),
    ("row_security", "off"),
    ("xmloption", "content"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_min_messages", "warning"),
    ("array_nulls", "on"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
];

/// Settings for the start-up packet.
pub(crate) fn startup(purpose: Purpose) -> impl Iterator<Item = (&'static str, &'static str)> {
    let fence: &[_] = if purpose == Purpose::SourceFence { &[("synchronous_commit", "on")] } else { &[] };
    EVERYWHERE.iter().chain(fence).copied()
}

/// Settings that depend on the server's version, as `SET` commands.
pub(crate) fn after_startup(purpose: Purpose, version: ServerVersion) -> String {
    let since: &[(u32, bool, &str)] = &[
        (11, true, "jit = off"),
        (12, purpose == Purpose::TargetApply, "plan_cache_mode = force_generic_plan"),
        (14, true, "idle_session_timeout = 0"),
        (17, true, "transaction_timeout = 0"),
    ];
    let known = since.iter().filter(|(major, wanted, _)| *wanted && version.major() >= *major);
    known.map(|(_, _, setting)| format!("SET {setting};")).collect()
}

/// Lets the server notice that we are gone, so that it gives our locks and slot back. Failure is no reason to give up.
///
/// A keepalive does not count while an answer is on its way to us; `tcp_user_timeout` does. Sessions that bring us rows are left without:
/// we may be held up for longer than it, and then a full window is no sign of death.
pub(crate) fn server_keepalive(purpose: Purpose, version: ServerVersion) -> String {
    let mut settings =
        "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
            .to_owned();
    let reads_at_once =
        matches!(purpose, Purpose::TargetControl | Purpose::TargetApply | Purpose::TargetAdmin);
    if reads_at_once && version.major() >= 12 {
        settings.push_str("SET tcp_user_timeout = 30000;");
    }
    settings
}
