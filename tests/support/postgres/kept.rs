//! Sessions of the fixture that stay open for its next call: a new one costs the server more than most statements do.

use std::cell::RefCell;

use tokio_postgres::Client;

use super::session::connect;

/// How many a thread keeps; a test has a thread of its own, and rarely more databases.
const MOST: usize = 8;

thread_local! {
    static KEPT: RefCell<Vec<(String, Client)>> = const { RefCell::new(Vec::new()) };
}

/// A session with this database, from an earlier call if it still answers.
pub async fn session(uri: &str) -> Result<Client, tokio_postgres::Error> {
    while let Some(client) = take(uri) {
        // Its server or its runtime may be gone.
        if client.batch_execute("").await.is_ok() {
            return Ok(client);
        }
    }
    connect(uri).await
}

/// Keeps a session, unless these statements leave something behind in it.
pub fn keep(uri: &str, client: Client, statements: &str) {
    if leaves_traces(statements) {
        return;
    }
    // While the thread ends nothing is kept.
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() == MOST {
            kept.remove(0);
        }
        kept.push((uri.to_owned(), client));
    });
}

/// Ends the sessions whose URI begins so.
pub fn end(server: &str) {
    let _ = KEPT.try_with(|kept| kept.borrow_mut().retain(|(uri, _)| !uri.starts_with(server)));
}

/// Whether other sessions are in the way of these statements, or would not see what they set.
pub fn needs_new_sessions(statements: &str) -> bool {
    let upper = statements.to_uppercase();
    ["DROP DATABASE", "ALTER DATABASE", "TEMPLATE", "ALTER ROLE", "ALTER USER", "ALTER SYSTEM", "RELOAD_CONF"]
        .iter()
        .any(|word| upper.contains(word))
}

fn take(uri: &str) -> Option<Client> {
    KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let at = kept.iter().rposition(|(known, _)| known == uri)?;
        Some(kept.remove(at).1)
    })
    .ok()?
}

fn leaves_traces(statements: &str) -> bool {
    const BEGINNINGS: [&str; 11] = [
        "SET ",
        "RESET ",
        "BEGIN",
        "START ",
        "LISTEN ",
        "PREPARE ",
        "LOCK ",
        "DECLARE ",
        "LOAD ",
        "CREATE TEMP",
        "DISCARD ",
    ];
    const ANYWHERE: [&str; 6] =
        ["TEMPORARY", "PG_TEMP", "ADVISORY", "SET_CONFIG", "ORIGIN_SESSION", "DBLINK"];
    let upper = statements.to_uppercase();
    ANYWHERE.iter().any(|word| upper.contains(word))
        || upper.split(';').any(|one| BEGINNINGS.iter().any(|word| one.trim_start().starts_with(word)))
}
