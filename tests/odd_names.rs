//! Names that need quoting, are as long as they can be, or look like something else.

use crate::support::{Feed, Way};

#[tokio::test]
async fn names_that_need_quoting() {
    let long = "n".repeat(63);
    let names = [
        long.as_str(),
        "a\"\"b",
        "new\nline",
        "dot.ted",
        "$1",
        "x; DROP TABLE canary; --",
        "select",
        "Größe €",
        "back\\slash",
        "it's",
        "%s",
        "ctid_",
        "v",
    ];
    let mut schema = "CREATE TABLE canary (id int PRIMARY KEY); CREATE SCHEMA \"Sch\"\"e.ma\"; CREATE TYPE \"Sch\"\"e.ma\".\"Ty.\"\"pe\" AS ENUM ('a', 'b''c');".to_owned();
    let mut changes = String::new();
    for name in names {
        let table = format!("\"Sch\"\"e.ma\".\"{name}\"");
        schema.push_str(&format!(
            "CREATE TABLE {table} (\"{name}\" int PRIMARY KEY, \"v {}\" \"Sch\"\"e.ma\".\"Ty.\"\"pe\", \"$2\" text);
             INSERT INTO {table} SELECT i, 'a', 'x' FROM generate_series(1, 10) i;",
            &name.chars().take(20).collect::<String>()
        ));
        changes.push_str(&format!(
            "UPDATE {table} SET \"$2\" = 'y'; DELETE FROM {table} WHERE \"{name}\" > 8; UPDATE {table} SET \"{name}\" = \"{name}\" + 100 WHERE \"{name}\" < 3;
             INSERT INTO {table} VALUES (1, 'b''c', NULL);"
        ));
    }
    let mut feed = Feed::of(&schema).ways(&[Way::Sets, Way::Rows]).start().await;
    feed.source(&changes).await;
    feed.source(&format!("TRUNCATE \"Sch\"\"e.ma\".\"{long}\", \"Sch\"\"e.ma\".\"new\nline\"")).await;
    feed.expect_exact().await;
    feed.end().await;
}
