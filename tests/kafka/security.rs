//! TLS, SASL and ACLs of the brokers; without the feature `kafka-tls`, what is left of that.

use crate::support::feed::Builder;
use crate::support::kafka::Secured;
use crate::support::kafka::secured::PASSWORD;
use crate::support::walferry::Status;
use crate::support::{Feed, Way};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text)";

/// A run that comes as this user, its password in the environment.
fn feed(brokers: &str, prefix: &str, settings: &[String]) -> Builder {
    let builder = Feed::of(TABLE).via_brokers(brokers, prefix).ways(&[Way::Default]);
    let settings = settings.iter().map(|setting| format!("kafka.{setting}"));
    settings
        .fold(builder, |builder, setting| builder.set(&setting))
        .env("WALFERRY_KAFKA_SASL_PASSWORD", PASSWORD)
}

fn plain() -> Vec<String> {
    vec![
        "security_protocol=SASL_PLAINTEXT".to_owned(),
        "sasl_mechanism=PLAIN".to_owned(),
        "sasl_username=walferry".to_owned(),
    ]
}

/// Ends with exit code 4 and this code; no secret in what was said.
async fn refused(builder: Builder, code: &str, hint: &str) {
    let mut feed = builder.spawn().await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(output.stderr.contains(code) && output.stderr.contains(hint), "{code}, {hint}: {output:#?}");
    assert!(!output.said().contains("c4nary"), "{output:#?}");
    feed.end().await;
}

#[cfg_attr(not(feature = "kafka-tls"), allow(dead_code))]
async fn comes_through(builder: Builder) {
    let mut feed = builder.start().await;
    feed.source("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 50) g").await;
    feed.expect_exact().await;
    let said = feed.lanes[0].running.as_ref().unwrap().stderr();
    assert!(!said.contains("c4nary"), "{said}");
    let record = "SELECT string_agg(r::text, '') FROM walferry.runs r";
    assert!(!feed.on_targets(record).await[0][0].contains("c4nary"));
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_stop_the_run_until_they_are_granted() {
    let secured = Secured::shared().await;
    refused(feed(&secured.sasl(), "ok", &plain()), "KAFKA_DENIED", "grant the client").await;
    secured.grant("ok", &["Read", "Create", "Describe", "DescribeConfigs"]);
    secured.grant("__debezium-heartbeat.ok", &["Read", "Create", "Describe", "DescribeConfigs"]);
    let mut feed = feed(&secured.sasl(), "ok", &plain()).spawn().await;
    // Topics that have just been made may be refused for another reason first, which passes.
    let denied = |status: &Status| status.error_code() == Some("KAFKA_DENIED");
    feed.lanes[0].running.as_mut().unwrap().wait_for("KAFKA_DENIED", denied).await;
    secured.grant("ok", &["Write"]);
    secured.grant("__debezium-heartbeat.ok", &["Write"]);
    feed.wait_live().await;
    feed.source("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 50) g").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_not_said() {
    let secured = Secured::shared().await;
    let builder =
        feed(&secured.sasl(), "wrong", &plain()).env("WALFERRY_KAFKA_SASL_PASSWORD", "wr0ng-c4nary");
    refused(builder, "KAFKA_AUTHENTICATION", "kafka.sasl_username").await;
    let builder = feed(&secured.sasl(), "argv", &plain()).set("kafka.sasl_password=c4nary");
    let mut feed = builder.spawn().await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(2);
    assert!(
        output.stderr.contains("not in a command line") && !output.said().contains("c4nary"),
        "{output:#?}"
    );
    feed.end().await;
}

#[cfg(feature = "kafka-tls")]
mod tls {
    use super::*;

    fn scram(secured: &Secured, mechanism: &str) -> Vec<String> {
        vec![
            "security_protocol=SASL_SSL".to_owned(),
            format!("sasl_mechanism={mechanism}"),
            "sasl_username=walferry".to_owned(),
            format!("ssl_ca={}", secured.file("root.crt")),
        ]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn scram_through_tls() {
        let secured = Secured::shared().await;
        secured.grant("scram", &["All"]);
        secured.grant("__debezium-heartbeat.scram", &["All"]);
        for (prefix, mechanism) in [("scram_a", "SCRAM-SHA-256"), ("scram_b", "SCRAM-SHA-512")] {
            comes_through(feed(&secured.sasl_ssl(), prefix, &scram(secured, mechanism))).await;
        }
        let builder = feed(&secured.sasl_ssl(), "wrong_tls", &scram(secured, "SCRAM-SHA-512"));
        refused(
            builder.env("WALFERRY_KAFKA_SASL_PASSWORD", "wr0ng-c4nary"),
            "KAFKA_AUTHENTICATION",
            "sasl_password_file",
        )
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_is_not_who_it_should_be_is_refused() {
        let secured = Secured::shared().await;
        let mut settings = scram(secured, "SCRAM-SHA-256");
        settings[3] = format!("ssl_ca={}", secured.file("other.crt"));
        refused(feed(&secured.sasl_ssl(), "unknown_ca", &settings), "KAFKA_TLS", "kafka.ssl_ca").await;
        // The system's authorities have not signed it either.
        settings.pop();
        refused(feed(&secured.sasl_ssl(), "unknown_ca", &settings), "KAFKA_TLS", "kafka.ssl_ca").await;
        let mut settings = scram(secured, "SCRAM-SHA-256");
        let brokers = secured.sasl_ssl().replace("localhost", "127.0.0.1");
        refused(feed(&brokers, "other_host", &settings), "KAFKA_TLS", "subjectAltName").await;
        secured.grant("other_host", &["All"]);
        secured.grant("__debezium-heartbeat.other_host", &["All"]);
        settings.push("ssl_endpoint_identification=off".to_owned());
        comes_through(feed(&brokers, "other_host", &settings)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_certificate_of_our_own_where_the_brokers_ask_for_one() {
        let secured = Secured::shared().await;
        let mut settings =
            vec!["security_protocol=SSL".to_owned(), format!("ssl_ca={}", secured.file("root.crt"))];
        refused(feed(&secured.ssl(), "mutual", &settings), "KAFKA_TLS", "kafka.ssl_cert").await;
        settings.push(format!("ssl_cert={}", secured.file("client.crt")));
        settings.push(format!("ssl_key={}", secured.file("client.key")));
        comes_through(feed(&secured.ssl(), "mutual", &settings)).await;
    }
}

#[cfg(not(feature = "kafka-tls"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_tls_says_how_to_get_it() {
    let secured = Secured::shared().await;
    let settings = ["security_protocol=SSL".to_owned()];
    let mut feed = feed(&secured.kafka.brokers(), "without", &settings).spawn().await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(2);
    assert!(output.stderr.contains("--features kafka-tls"), "{output:#?}");
    feed.end().await;
}
