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
    std::fs::write(&file, golden).unwrap();
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
        ("capture.skipped_operations", "none"),
        ("capture.snapshot", "initial"),
        ("capture.publication", "all_tables"),
        ("capture.via_partition_root", "on"),
        ("capture.message_include", ".*"),
        ("kafka.transactions", "off"),
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
    std::fs::write(&file, config.replace(&format!("${{vault:db:{canary}}}"), "${env:NOBODY_SET_IT}"))
        .unwrap();
    let output = show(&file.display().to_string()).await.expect_code(2);
    assert!(output.stderr.contains("environment variable \"NOBODY_SET_IT\""), "{}", output.stderr);
    std::fs::write(&file, config.replace("${vault:db:", "").replace("c4nary}", "c4nary")).unwrap();
    let output = show(&file.display().to_string()).await.expect_code(2);
    assert!(output.stderr.contains("column.mask.hash.SHA-256.with.salt.{x}"), "{}", output.stderr);
    assert!(output.stderr.contains("did you mean \"column.include.list\""), "{}", output.stderr);
    assert!(!output.stderr.contains(canary), "{}", output.stderr);
    scratch::remove(&folder);
}

#[tokio::test]
async fn a_worker_s_file_says_where_the_brokers_are_and_its_password_is_not_shown() {
    let folder = scratch::folder("connector");
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let connector = write(
        "c.properties",
        "topic.prefix=srv\nproducer.override.security.protocol=SASL_SSL\nkey.converter.schemas.enable=false\n\
         value.converter.schemas.enable=false\ncolumn.include.list=public.t.(id|n)\n",
    );
    let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"me\" password=\"s3cr3t\";";
    let worker = write(
        "w.properties",
        &format!(
            "bootstrap.servers=k1:9092,k2:9092\ngroup.id=g\nkey.converter.schemas.enable=true\nsecurity.protocol=PLAINTEXT\n\
             producer.sasl.mechanism=SCRAM-SHA-512\nproducer.sasl.jaas.config={jaas}\nproducer.linger.ms=5\n\
             ssl.endpoint.identification.algorithm=\nssl.truststore.location=/etc/ca.pem\nssl.truststore.type=PEM\n"
        ),
    );
    let output = Walferry::new(NOWHERE, NOWHERE)
        .command("config")
        .args(&["show", "--json", "--connector", &connector, "--connector", &worker])
        .run()
        .await;
    // Without the feature there is no TLS to set up.
    assert!(output.code == 0 || output.stderr.contains("kafka-tls"), "{output:#?}");
    assert!(!output.said().contains("s3cr3t"), "{output:#?}");
    if output.code == 0 {
        let shown = output.json();
        for (key, value) in [
            ("kafka.brokers", "k1:9092,k2:9092"),
            ("kafka.security_protocol", "SASL_SSL"),
            ("kafka.sasl_mechanism", "SCRAM-SHA-512"),
            ("kafka.sasl_username", "me"),
            ("kafka.ssl_ca", "/etc/ca.pem"),
            ("kafka.ssl_endpoint_identification", "off"),
            ("kafka.schemas", "off"),
            ("capture.column_include", "public.t.(id|n)"),
        ] {
            assert_eq!(shown[key]["value"], value, "{key}");
        }
    }
    let refused = write(
        "r.properties",
        "snapshot.mode=initial_only\nproducer.override.ssl.truststore.location=/etc/trust.jks\nsasl.jaas.config=x\n\
         table.include.list=public.(\nskipped.operations=x\n",
    );
    let output = show(&refused).await.expect_code(2);
    for part in [
        "\"snapshot.mode\": refused: walferry read streams",
        "\"producer.override.ssl.truststore.location\": expected a PEM file",
        "\"sasl.jaas.config\": expected PlainLoginModule",
        "capture.table_include: expected regular expressions",
        "capture.skipped_operations: expected none, or some of c, u, d, t",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    scratch::remove(&folder);
}
