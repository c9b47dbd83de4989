//! A Debezium connector's file: what it becomes, what is said of the rest, what is refused. No server is needed.

use crate::support::walferry::Output;
use crate::support::{Walferry, scratch};

const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

async fn show(file: &str) -> Output {
    Walferry::new(NOWHERE, NOWHERE)
        .command("config")
        .args(&["show", "--json", "--connector", file])
        .run()
        .await
}

#[tokio::test]
async fn its_properties_become_keys_and_the_rest_is_named_once() {
    let folder = scratch::folder("connector");
    let file = folder.join("strings.properties").display().to_string();
    let golden = include_str!("golden/strings.properties");
    std::fs::write(&file, golden.replace("skipped.operations=none\n", "")).unwrap();
    let output = show(&file).await.expect_code(0);
    let shown: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    for (key, value) in [
        ("run.slot", "s_v2"),
        ("run.publication", "p_v2"),
        ("kafka.prefix", "srv"),
        ("kafka.values", "debezium"),
        ("kafka.schemas", "off"),
        ("decimal.handling.mode", "string"),
        ("time.precision.mode", "isostring"),
        ("interval.handling.mode", "string"),
        ("hstore.handling.mode", "map"),
        ("binary.handling.mode", "hex"),
    ] {
        assert_eq!(shown[key]["value"], value, "{key}");
        assert_eq!(shown[key]["origin"], format!("connector {file}"), "{key}");
    }
    for property in ["name", "offset.storage", "plugin.name"] {
        let said = output.stderr.matches(&format!("\"{property}\" is not applicable: ")).count();
        assert_eq!(said, 1, "{property}: {}", output.stderr);
    }
    scratch::remove(&folder);
}

#[tokio::test]
async fn what_is_refused_is_named_and_its_value_is_not() {
    let folder = scratch::folder("connector");
    let file = folder.join("c.json");
    let canary = "s3cr3t-c4nary";
    let config = format!(
        "{{\"name\": \"c\", \"config\": {{\"column.mask.hash.SHA-256.with.salt.{{x}}\": \"{canary}\", \"colum.include.list\": \"{canary}\",
          \"database.password\": \"${{vault:db:{canary}}}\"}}}}"
    );
    std::fs::write(&file, &config).unwrap();
    let output = show(&file.display().to_string()).await.expect_code(2);
    assert!(output.stderr.contains("config provider \"vault\""), "{}", output.stderr);
    std::fs::write(&file, config.replace("${vault", "${env")).unwrap();
    let output = show(&file.display().to_string()).await.expect_code(2);
    assert!(output.stderr.contains("environment variable"), "{}", output.stderr);
    std::fs::write(&file, config.replace("${vault:db:", "").replace("c4nary}", "c4nary")).unwrap();
    let output = show(&file.display().to_string()).await.expect_code(2);
    assert!(output.stderr.contains("column.mask.hash.SHA-256.with.salt.{x}"), "{}", output.stderr);
    assert!(output.stderr.contains("did you mean \"column.include.list\""), "{}", output.stderr);
    assert!(!output.stderr.contains(canary), "{}", output.stderr);
    scratch::remove(&folder);
}
