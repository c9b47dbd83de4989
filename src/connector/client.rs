//! The properties of Kafka's client and of a Kafka Connect worker: where the brokers are, and how to speak to them.
//!
//! A connector has them with `producer.override.` before each, a worker with `producer.` or without anything: the first of these that is
//! there counts.

use super::property::Property;
use super::property::Verdict::{NotApplicable, Only, Refused, Sets, SetsAll};
use super::property::as_it_is;

const WORKER: &str = "the worker's own; walferry is none";
const LIBRARY: &str = "the TLS library's own choice";
const INLINE: &str = "put it into a file, and name that: kafka.ssl_ca, kafka.ssl_cert, kafka.ssl_key";
const PEM_HAS_NONE: &str = "a PEM file has no password of its own";

/// Consulted behind every other table.
pub const CLIENT: &[Property] = &[
    p("bootstrap.servers", sets("kafka.brokers", as_it_is), ""),
    p("security.protocol", sets("kafka.security_protocol", upper), ""),
    p("sasl.mechanism", sets("kafka.sasl_mechanism", upper), ""),
    p(
        "sasl.jaas.config",
        SetsAll(jaas),
        "`kafka.sasl_username` and `kafka.sasl_password`, of PlainLoginModule or ScramLoginModule",
    ),
    p("ssl.truststore.location", sets("kafka.ssl_ca", pem), "PEM; a JKS or PKCS12 store has to be exported"),
    p(
        "ssl.keystore.location",
        SetsAll(key_and_certificate),
        "`kafka.ssl_cert` and `kafka.ssl_key`, in one PEM file",
    ),
    p(
        "ssl.truststore.type",
        Only(&["PEM"]),
        "certificates are PEM: keytool -exportcert -rfc, openssl pkcs12 -nodes",
    ),
    p(
        "ssl.keystore.type",
        Only(&["PEM"]),
        "certificates are PEM: keytool -exportcert -rfc, openssl pkcs12 -nodes",
    ),
    p("ssl.truststore.password", NotApplicable, PEM_HAS_NONE),
    p("ssl.keystore.password", NotApplicable, PEM_HAS_NONE),
    p("ssl.key.password", Refused, "put it into a file, and name that: kafka.ssl_key_password_file"),
    p("ssl.truststore.certificates", Refused, INLINE),
    p("ssl.keystore.certificate.chain", Refused, INLINE),
    p("ssl.keystore.key", Refused, INLINE),
    p("ssl.endpoint.identification.algorithm", sets("kafka.ssl_endpoint_identification", identification), ""),
    p("ssl.engine.factory.class", Refused, "a Java class"),
    p("ssl.*", NotApplicable, LIBRARY),
    p("sasl.login.callback.handler.class", Refused, "a Java class"),
    p("sasl.client.callback.handler.class", Refused, "a Java class"),
    p("sasl.*", NotApplicable, "belongs to mechanisms that are refused"),
    // A worker's.
    p("group.id", NotApplicable, WORKER),
    p("client.id", NotApplicable, "the client is walferry-NAME"),
    p("plugin.path", NotApplicable, WORKER),
    p("plugin.discovery", NotApplicable, WORKER),
    p("listeners", NotApplicable, WORKER),
    p("rest.*", NotApplicable, WORKER),
    p("admin.*", NotApplicable, WORKER),
    p("consumer.*", NotApplicable, WORKER),
    p(
        "producer.*",
        NotApplicable,
        "the producer is idempotent, acks=all and lz4; sizes and waiting are kafka.message_bytes, kafka.in_flight_bytes and kafka.linger",
    ),
    p("config.storage.*", NotApplicable, WORKER),
    p("status.storage.*", NotApplicable, WORKER),
    p("connector.client.config.override.policy", NotApplicable, WORKER),
    p("task.shutdown.graceful.timeout.ms", NotApplicable, "a signal ends it within seconds"),
    p("metric.reporters", NotApplicable, "metrics are walferry's own"),
    p("metrics.*", NotApplicable, "metrics are walferry's own"),
];

/// The client's own name of a property, where it has a prefix.
pub fn bare(name: &str) -> Option<&str> {
    name.strip_prefix("producer.override.").or_else(|| name.strip_prefix("producer."))
}

/// Which of several that say the same counts: the smallest.
pub fn rank(name: &str) -> u8 {
    match name {
        name if name.starts_with("producer.override.") => 0,
        name if name.starts_with("producer.") => 1,
        _ => 2,
    }
}

const fn p(name: &'static str, verdict: super::Verdict, note: &'static str) -> Property {
    Property { name, verdict, note }
}

const fn sets(key: &'static str, read: fn(&str) -> Result<String, String>) -> super::Verdict {
    Sets { key, read, default: None }
}

fn upper(text: &str) -> Result<String, String> {
    Ok(text.trim().to_ascii_uppercase())
}

fn identification(text: &str) -> Result<String, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "https" => Ok("on".to_owned()),
        "" => Ok("off".to_owned()),
        _ => Err("expected https, or nothing".to_owned()),
    }
}

/// By its name: what is in it is seen when it is read.
fn pem(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    if [".jks", ".p12", ".pfx", ".pkcs12"].iter().any(|end| name.ends_with(end)) {
        return Err("expected a PEM file (keytool -exportcert -rfc, openssl pkcs12 -nodes)".to_owned());
    }
    Ok(text.trim().to_owned())
}

fn key_and_certificate(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let file = pem(text)?;
    Ok(vec![("kafka.ssl_cert", file.clone()), ("kafka.ssl_key", file)])
}

/// `org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="p";`
fn jaas(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let expected =
        || "expected PlainLoginModule or ScramLoginModule with username=\"…\" and password=\"…\"".to_owned();
    let text = text.trim();
    let (module, options) = text.split_once(char::is_whitespace).ok_or_else(expected)?;
    if !["plain.PlainLoginModule", "scram.ScramLoginModule"].iter().any(|known| module.ends_with(known)) {
        return Err(expected());
    }
    let option = |name: &str| {
        let at = options.match_indices(name).map(|(at, _)| at).find(|at| {
            let before = options[..*at].chars().next_back();
            before.is_none_or(char::is_whitespace)
        })?;
        value(options[at + name.len()..].trim_start().strip_prefix('=')?.trim_start())
    };
    match (option("username"), option("password")) {
        (Some(user), Some(password)) => {
            Ok(vec![("kafka.sasl_username", user), ("kafka.sasl_password", password)])
        }
        _ => Err(expected()),
    }
}

/// A value in double quotes, or up to white space or the semicolon.
fn value(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(text.len());
        return Some(text[..end].to_owned());
    };
    let (mut out, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return Some(out),
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_module_is_taken_apart() {
        let text = r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="u;\"x" password=p4ss;"#;
        let read = jaas(text).unwrap();
        assert_eq!(
            read,
            [("kafka.sasl_username", "u;\"x".to_owned()), ("kafka.sasl_password", "p4ss".to_owned())]
        );
        for text in [
            "",
            "com.sun.security.auth.module.Krb5LoginModule required username=a password=b;",
            "x.plain.PlainLoginModule required username=\"a\";",
        ] {
            assert!(jaas(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stores_of_java_are_refused() {
        assert!(pem("/etc/kafka/trust.jks").is_err());
        assert_eq!(pem(" /etc/kafka/ca.pem ").unwrap(), "/etc/kafka/ca.pem");
        assert_eq!(identification("").unwrap(), "off");
    }
}
