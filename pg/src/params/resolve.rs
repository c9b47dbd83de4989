//! String over service over environment over default, then each value into its type.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::keyword::Given;
use super::{Environment, Keepalive, Params, auth, host, keyvalue, service, tls, uri};
use crate::{Error, Result};

/// Where libpq waits for ever, a run would hang.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A dropped peer is noticed after idle + interval × count = 25 s.
const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), count: 3 };

/// Keywords that are known and cannot be honoured, whatever their value.
const UNSUPPORTED: &[&str] = &[
    "scram_client_key",
    "scram_server_key",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "sslcrldir",
    "sslkeylogfile",
];

pub(super) fn resolve(text: &str, environment: &Environment) -> Result<Params> {
    let mut given = Given::default();
    if text.contains('\0') {
        return Err(Error::usage("the connection string holds a zero byte"));
    }
    let trimmed = text.trim();
    match uri::strip_scheme(trimmed) {
        Some(rest) => uri::parse(rest, &mut given)?,
        None if trimmed.contains("://") && !trimmed.contains('=') => {
            return Err(Error::usage(
                "the connection string is neither a PostgreSQL URI nor keyword/value pairs",
            )
            .hint("write it as postgresql://user@host:port/dbname or as host=… port=… user=… dbname=…"));
        }
        None => keyvalue::parse(trimmed, &mut given)?,
    }
    service::fill(&mut given, environment)?;
    given.fill_from(environment);
    if let Some(keyword) = UNSUPPORTED.iter().find(|keyword| given.get(keyword).is_some()) {
        return Err(Error::usage(format!("connection option \"{keyword}\" is not supported")));
    }
    if given.get("gssencmode") == Some("require") {
        return Err(Error::usage("connection option \"gssencmode\": encryption by GSSAPI is not supported")
            .hint("use TLS: gssencmode=prefer sslmode=verify-full"));
    }

    let user = match given.get("user").or(environment.user()) {
        Some(user) => user.to_owned(),
        None => return Err(Error::usage("no user name in the connection string").hint("add user=… to it")),
    };
    let keepalive = match given.integer("keepalives")? {
        Some(0) => None,
        _ => Some(Keepalive {
            idle: seconds(&given, "keepalives_idle")?.unwrap_or(KEEPALIVE.idle),
            interval: seconds(&given, "keepalives_interval")?.unwrap_or(KEEPALIVE.interval),
            count: given
                .integer("keepalives_count")?
                .and_then(|count| u32::try_from(count).ok())
                .filter(|count| *count > 0)
                .unwrap_or(KEEPALIVE.count),
        }),
    };
    let tcp_user_timeout = given
        .integer("tcp_user_timeout")?
        .and_then(|millis| u64::try_from(millis).ok())
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis);
    let connect_timeout = match given.integer("connect_timeout")? {
        None => Some(CONNECT_TIMEOUT),
        // libpq: zero or less waits for ever, one second counts as two.
        Some(limit) => u64::try_from(limit)
            .ok()
            .filter(|limit| *limit > 0)
            .map(|limit| Duration::from_secs(limit.max(2))),
    };
    let application_name = given.get("application_name").or(given.get("fallback_application_name"));
    let hosts = host::hosts(&given)?;
    let tls = tls::tls(&given, environment, &hosts)?;
    Ok(Params {
        hosts,
        dbname: given.get("dbname").unwrap_or(&user).to_owned(),
        user,
        password: given.get("password").map(SecretString::from),
        password_file: None,
        passfile: given.get("passfile").map(PathBuf::from).or_else(|| environment.in_home(".pgpass")),
        options: given.get("options").map(str::to_owned),
        application_name: application_name.map(str::to_owned),
        connect_timeout,
        keepalive,
        tcp_user_timeout,
        target_session_attrs: host::target_session_attrs(&given)?,
        load_balance: match given.get("load_balance_hosts").unwrap_or("disable") {
            "disable" => false,
            "random" => true,
            _ => return Err(Error::usage("invalid value for connection option \"load_balance_hosts\"")),
        },
        require_auth: auth::require_auth(&given)?,
        channel_binding: auth::channel_binding(&given)?,
        require_peer: given.get("requirepeer").map(str::to_owned),
        tls,
    })
}

/// A positive number of seconds; zero or less is the default, as in libpq.
fn seconds(given: &Given, keyword: &str) -> Result<Option<Duration>> {
    let value = given.integer(keyword)?;
    Ok(value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).map(Duration::from_secs))
}
