//! libpq's keywords with their environment variables, and the values given for them.

use std::collections::BTreeMap;

use super::Environment;
use crate::{Error, Result};

/// Keyword and environment variable.
const KEYWORDS: &[(&str, &str)] = &[
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("dbname", "PGDATABASE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("client_encoding", ""),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("fallback_application_name", ""),
    ("keepalives", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("keepalives_count", ""),
    ("tcp_user_timeout", ""),
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslcompression", ""),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("sslpassword", ""),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslsni", "PGSSLSNI"),
    ("sslkeylogfile", ""),
    ("requirepeer", "PGREQUIREPEER"),
    ("require_auth", "PGREQUIREAUTH"),
    ("min_protocol_version", ""),
    ("max_protocol_version", ""),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("gssencmode", "PGGSSENCMODE"),
    ("krbsrvname", "PGKRBSRVNAME"),
    ("gsslib", "PGGSSLIB"),
    ("gssdelegation", "PGGSSDELEGATION"),
    ("replication", ""),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("scram_client_key", ""),
    ("scram_server_key", ""),
    ("oauth_issuer", ""),
    ("oauth_client_id", ""),
    ("oauth_client_secret", ""),
    ("oauth_scope", ""),
];

/// Values by keyword; what was set first stays (string over service over environment).
#[derive(Default)]
pub(super) struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// Sets `keyword` from the connection string, where a later value wins.
    pub(super) fn set(&mut self, keyword: &str, value: impl Into<String>) -> Result<()> {
        self.0.insert(known(keyword)?, value.into());
        Ok(())
    }

    /// Sets `keyword` unless it has a value.
    pub(super) fn fill(&mut self, keyword: &str, value: impl Into<String>) -> Result<()> {
        self.0.entry(known(keyword)?).or_insert_with(|| value.into());
        Ok(())
    }

    pub(super) fn fill_from(&mut self, environment: &Environment) {
        for (keyword, variable) in KEYWORDS {
            if let Some(value) = environment.get(variable) {
                self.0.entry(keyword).or_insert_with(|| value.to_owned());
            }
        }
    }

    /// The value, unless it is empty: libpq takes an empty value for the default.
    pub(super) fn get(&self, keyword: &str) -> Option<&str> {
        debug_assert!(known(keyword).is_ok(), "{keyword}");
        self.0.get(keyword).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// An integer; libpq's rules (surrounding blanks allowed).
    pub(super) fn integer(&self, keyword: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(keyword) else { return Ok(None) };
        let parsed = value.trim().parse();
        parsed
            .map(Some)
            .map_err(|_| Error::usage(format!("invalid integer value for connection option \"{keyword}\"")))
    }
}

fn known(keyword: &str) -> Result<&'static str> {
    let found = KEYWORDS.iter().find(|(name, _)| *name == keyword);
    found.map(|(name, _)| *name).ok_or_else(|| {
        // What stands before a "=" may be a piece of an unquoted password: shown only if it looks like a keyword.
        let plausible = keyword.len() <= 32 && keyword.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let shown = if plausible { format!(" \"{keyword}\"") } else { String::new() };
        Error::usage(format!("invalid connection option{shown}"))
            .hint("write it as libpq does: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS")
    })
}

/// The environment variable of a keyword.
pub(super) fn variable(keyword: &str) -> &'static str {
    KEYWORDS.iter().find(|(name, _)| *name == keyword).map_or("", |(_, variable)| variable)
}

/// Every environment variable that libpq would read.
pub(super) fn variables() -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().map(|(_, variable)| *variable).filter(|variable| !variable.is_empty())
}
