//! The last net under passwords: whatever is printed about a command line goes through here.
//!
//! Messages are built without secrets in the first place; but clap repeats an argument that it doesn't know, and that may be a
//! connection string whose `--source` was forgotten.

/// `text` with the passwords of connection strings as `***`.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace()).unwrap_or(after.len());
        let (uri, tail) = after.split_at(end);
        out.push_str(&redact_user(uri));
        rest = tail;
    }
    out.push_str(rest);
    for keyword in ["password=", "password =", "sslpassword=", "passwort="] {
        out = redact_value(&out, keyword);
    }
    out
}

/// `user:secret@host` → `user:***@host`. The last `@` counts: a password may hold one that nobody encoded.
fn redact_user(uri: &str) -> String {
    let Some((user, rest)) = uri.rsplit_once('@') else { return uri.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:***@{rest}"),
        None => uri.to_owned(),
    }
}

fn redact_value(text: &str, keyword: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(keyword) {
        let (before, after) = rest.split_at(at + keyword.len());
        out.push_str(before);
        out.push_str("***");
        let after = after.trim_start_matches(' ');
        let end = match after.strip_prefix('\'') {
            // A quoted value ends at a quote; one that is not closed, never.
            Some(quoted) => quoted.find('\'').map_or(after.len(), |at| at + 2),
            None => after.find(|c: char| c.is_whitespace() || c == '&').unwrap_or(after.len()),
        };
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_connection_string_is_left() {
        for text in [
            "unexpected argument 'postgres://app:c4nary@db/app' found",
            "postgresql://app:p@c4nary@db:5432/app?sslmode=require",
            "postgres://db/app?user=a&password=c4nary&sslmode=require",
            "host=db password=c4nary user=a",
            "host=db PASSWORD = 'a c4nary' user=a",
            "host=db password='c4nary",
        ] {
            let shown = redact(text);
            assert!(!shown.contains("c4nary"), "{shown}");
            assert!(shown.contains("db"), "{shown}");
        }
        assert_eq!(redact("nothing://to/hide here"), "nothing://to/hide here");
    }
}
