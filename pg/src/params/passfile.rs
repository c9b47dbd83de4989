//! `.pgpass`: lines of `host:port:database:user:password`, `*` for any, backslash escapes.

use std::path::Path;

use secrecy::SecretString;

use super::host::{Endpoint, Host};

/// The password of the first line that matches. A file that others may read is passed over with a warning, as in libpq.
pub(super) fn lookup(file: &Path, host: &Host, dbname: &str, user: &str) -> Option<SecretString> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            file = %file.display(),
            "password file has group or world access and is not used; permissions should be u=rw (0600) or less"
        );
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    find(&text, host, dbname, user)
}

fn find(text: &str, host: &Host, dbname: &str, user: &str) -> Option<SecretString> {
    let port = host.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (name, rest) = field(line)?;
        let (line_port, rest) = field(rest)?;
        let (database, rest) = field(rest)?;
        let (role, rest) = field(rest)?;
        let matches =
            host_matches(&name, host) && is(&line_port, &port) && is(&database, dbname) && is(&role, user);
        let password = unescape(rest);
        (matches && !password.is_empty()).then(|| SecretString::from(password))
    })
}

fn host_matches(pattern: &str, host: &Host) -> bool {
    match &host.endpoint {
        Endpoint::Tcp { name, address } => {
            is(pattern, name) || address.is_some_and(|address| is(pattern, &address.to_string()))
        }
        Endpoint::Unix(folder) => is(pattern, &folder.to_string_lossy()) || pattern == "localhost",
    }
}

fn is(pattern: &str, value: &str) -> bool {
    pattern == "*" || pattern == value
}

/// The field up to the next unescaped colon, and what follows.
fn field(line: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((unescape(&line[..at]), &line[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' { out.extend(chars.next()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn the_first_matching_line_wins() {
        let text = "# comment\n\
                    other:*:*:*:no\n\
                    db.example:5432:app:ann:pa\\:ss\\\\word\n\
                    *:*:*:*:any\n";
        let host =
            |name: &str| Host { endpoint: Endpoint::Tcp { name: name.into(), address: None }, port: 5432 };
        let found =
            |name: &str, db: &str| find(text, &host(name), db, "ann").map(|p| p.expose_secret().to_owned());
        assert_eq!(found("db.example", "app").as_deref(), Some("pa:ss\\word"));
        assert_eq!(found("db.example", "b").as_deref(), Some("any"));
        assert_eq!(found("other", "app").as_deref(), Some("no"));
    }
}
