//! Values that nothing may say: loads write them into rows, the superuser's password is one, and whatever the program writes is searched
//! for them when the test is over, in every test.
//!
//! A test whose rows hold none finds nothing; one that prints rows on purpose has to keep them free of canaries.

use crate::support::Postgres;
use crate::support::postgres::connect;

/// In each of them, so that one search finds all.
const MARK: &str = "c4nary";
/// Part of row values.
pub const ROW: &str = "c4nary-row";
/// Of the superuser, who is trusted without it.
pub const PASSWORD: &str = "c4nary-password";

/// Fails if a canary is in what the program has said. While a test fails already it only says so.
pub fn expect_none(what: &str, text: &str) {
    let Some(line) = text.lines().find(|line| line.contains(MARK)) else { return };
    let found = format!("a row value or a password is in {what}: {line}");
    if std::thread::panicking() {
        eprintln!("--- {found}");
    } else {
        panic!("{found}");
    }
}

/// The same for what the program has recorded in a target.
pub async fn expect_none_recorded(target: &Postgres, database: &str) {
    let client = connect(&target.uri(database)).await.expect("the target is up");
    let tables = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = to_regnamespace('walferry') AND relkind = 'r'";
    for table in client.query(tables, &[]).await.expect("the catalog can be read") {
        let table: String = table.get(0);
        let rows = client.query(&format!("SELECT t::text FROM {table} t"), &[]).await.unwrap_or_default();
        for row in rows {
            expect_none(&table, row.get(0));
        }
    }
}

/// The URI with the password of the superuser, where it has none.
pub fn with_password(uri: &str) -> String {
    uri.replacen("://postgres@", &format!("://postgres:{PASSWORD}@"), 1)
}
