//! URIs: `postgresql://user:password@host1:port1,host2/dbname?keyword=value`.
//!
//! Where libpq splits user information at the first `@`, this splits at the last one of the authority: a host holds none, and an
//! unencoded one in a password would otherwise end up in messages as a part of a host name.

use super::keyword::Given;
use crate::{Error, Result};

const PREFIXES: [&str; 2] = ["postgresql://", "postgres://"];

/// The part after the scheme, if `text` is a URI.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix))
}

pub(super) fn parse(rest: &str, given: &mut Given) -> Result<()> {
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (authority, dbname) = match rest.split_once('/') {
        Some((authority, dbname)) => (authority, Some(dbname)),
        None => (rest, None),
    };
    let hosts = match authority.rsplit_once('@') {
        Some((user_information, hosts)) => {
            let (user, password) = match user_information.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user_information, None),
            };
            set_unless_empty(given, "user", user)?;
            set_unless_empty(given, "password", password.unwrap_or_default())?;
            hosts
        }
        None => authority,
    };
    if dbname.is_some_and(|name| name.contains(['@', '/'])) {
        return Err(Error::usage("invalid connection URI: more than one \"/\" or a \"@\" after the host")
            .hint("write \"/\" in a user name, password or database as %2F, and \"@\" as %40"));
    }
    parse_hosts(hosts, given)?;
    set_unless_empty(given, "dbname", dbname.unwrap_or_default())?;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return Err(Error::usage("missing \"=\" in the query part of the connection URI"));
        };
        match (&*decode(keyword)?, &*decode(value)?) {
            ("ssl", "true") => given.set("sslmode", "require")?,
            (keyword, value) => given.set(keyword, value)?,
        }
    }
    Ok(())
}

/// `host:port,[v6]:port`: two parallel lists.
fn parse_hosts(hosts: &str, given: &mut Given) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let malformed = || Error::usage("invalid IPv6 address in the connection URI");
                let (name, port) = rest.split_once(']').ok_or_else(malformed)?;
                match port.strip_prefix(':') {
                    Some(port) => (name, port),
                    None if port.is_empty() => (name, ""),
                    None => return Err(malformed()),
                }
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name)?);
        ports.push(decode(port)?);
    }
    if names.iter().any(|name| !name.is_empty()) {
        given.set("host", names.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        given.set("port", ports.join(","))?;
    }
    Ok(())
}

fn set_unless_empty(given: &mut Given, keyword: &str, encoded: &str) -> Result<()> {
    if encoded.is_empty() { Ok(()) } else { given.set(keyword, decode(encoded)?) }
}

/// Percent-decoding; `+` stands for itself.
fn decode(encoded: &str) -> Result<String> {
    let malformed =
        || Error::usage("invalid percent-encoding in the connection URI").hint("write a \"%\" itself as %25");
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(malformed)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16).ok_or_else(malformed);
        let value = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| malformed())?;
        if value == 0 {
            return Err(malformed());
        }
        decoded.push(value);
        rest = tail;
    }
    String::from_utf8(decoded).map_err(|_| Error::usage("the connection URI is not UTF-8 after decoding"))
}
