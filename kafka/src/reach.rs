//! Whether the brokers take us at all: librdkafka tries again for ever and says why only on the side.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pg::{Error, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::aside::Aside;
use crate::options::{Options, REQUEST, made};

/// One try within [`REQUEST`].
const TRY: Duration = Duration::from_millis(250);
/// How long the look at the cause of a refused certificate may take.
const LOOK: Duration = Duration::from_secs(3);

/// What a client was told last.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Option<(Code, String)>>>);

impl ClientContext for Told {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "kafka", "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", "{error}: {reason}");
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That all are down says less than why one of them is.
        if code != Code::AllBrokersDown || told.is_none() {
            *told = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Told {}

/// What is wrong with the way to the brokers, as librdkafka has said it; none: it may pass.
pub(crate) fn refusal(code: Code, reason: &str) -> Option<Error> {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => Some(
            Error::refuse("KAFKA_AUTHENTICATION", format!("Kafka: the brokers refuse the credentials: {reason}"))
                .hint("check kafka.sasl_username, kafka.sasl_mechanism and the password (kafka.sasl_password_file, …_command, or WALFERRY_KAFKA_SASL_PASSWORD)"),
        ),
        Code::UnsupportedSASLMechanism => Some(
            Error::refuse("KAFKA_AUTHENTICATION", format!("Kafka: the brokers don't take the SASL mechanism: {reason}"))
                .hint("set kafka.sasl_mechanism to one that sasl.enabled.mechanisms of the brokers has"),
        ),
        Code::SSL if reason.contains("certificate verify failed") => Some(unknown_authority(reason)),
        // An alert of the brokers: what they ask for is ours to give. It may come behind the handshake, as an error of the connection.
        Code::SSL | Code::BrokerTransportFailure
            if (reason.contains("SSL routines") && reason.contains(" alert "))
                || reason.contains("client SSL authentication") => Some(
            Error::refuse("KAFKA_TLS", format!("Kafka: the brokers refuse the TLS connection: {reason}"))
                .hint("brokers that ask for a certificate need kafka.ssl_cert and kafka.ssl_key, signed by an authority that they trust"),
        ),
        _ => None,
    }
}

fn unknown_authority(reason: &str) -> Error {
    Error::refuse(
        "KAFKA_TLS",
        "Kafka: the brokers' certificate is not signed by an authority that is trusted here",
    )
    .detail(reason)
    .hint("let kafka.ssl_ca name the file with the certificate of the authority that signed the brokers' own")
}

fn other_host(brokers: &str) -> Error {
    Error::refuse("KAFKA_TLS", "Kafka: the brokers' certificate does not name the host that was asked for")
        .detail(format!("brokers {brokers}, or what their advertised.listeners say"))
        .hint(
            "give --brokers the names that stand in the certificate (subjectAltName), or have one made with these; \
             kafka.ssl_endpoint_identification=off does without the check",
        )
}

/// Asks the brokers for their metadata, within [`REQUEST`].
///
/// # Errors
/// `Refuse`: credentials or certificate are not taken. `Usage`: this build can't do what the settings ask for. `Connection`: nobody answers.
pub async fn reach(options: &Options) -> Result<()> {
    options.security.check()?;
    let options = options.clone();
    tokio::task::spawn_blocking(move || ask(&options, REQUEST))
        .await
        .map_err(|error| Error::failed("KAFKA", error.to_string()))?
}

fn ask(options: &Options, patience: Duration) -> Result<()> {
    let told = Told::default();
    let client: BaseConsumer<Told> = made(options.admin().create_with_context(told.clone()))?;
    let client = Aside::new(client);
    let deadline = Instant::now() + patience;
    loop {
        let answer = client.fetch_metadata(None, TRY);
        // Serves what was said on the side.
        while client.poll(Duration::ZERO).is_some() {}
        let error = match answer {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let last = told.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(error) = last.as_ref().and_then(|(code, reason)| refusal(*code, reason)) {
            let certificate = error.code() == "KAFKA_TLS" && error.detail_text().is_some();
            return Err(match certificate && options.security.host_name && !signed_by_nobody(options) {
                true => other_host(&options.brokers),
                false => error,
            });
        }
        if Instant::now() >= deadline {
            let why = last.map_or_else(|| error.to_string(), |(_, reason)| reason);
            return Err(Error::connection(format!("Kafka: the brokers can't be reached: {why}"))
                .with_code("KAFKA")
                .detail(format!("brokers {}", options.brokers))
                .hint("check --brokers and kafka.security_protocol, and that they are up"));
        }
    }
}

/// Whether the certificate is refused without a look at its names as well. Asks without credentials.
fn signed_by_nobody(options: &Options) -> bool {
    let options = Options { security: options.security.anonymous(), ..options.clone() };
    let told = Told::default();
    let Ok(client) = options.admin().create_with_context::<_, BaseConsumer<Told>>(told.clone()) else {
        return true;
    };
    let deadline = Instant::now() + LOOK;
    while Instant::now() < deadline {
        let answered = client.fetch_metadata(None, TRY).is_ok();
        while client.poll(Duration::ZERO).is_some() {}
        let last = told.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            _ if answered => return false,
            Some((Code::SSL, reason)) => return reason.contains("certificate verify failed"),
            // It came through TLS, and was sent away behind it.
            Some((code, _)) if code != Code::Resolve => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_no_refusal() {
        assert!(refusal(Code::BrokerTransportFailure, "connection refused").is_none());
        assert!(refusal(Code::AllBrokersDown, "1/1 brokers are down").is_none());
        assert!(refusal(Code::SSL, "SSL handshake failed: Disconnected").is_none());
        let asked =
            "Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42";
        assert_eq!(refusal(Code::BrokerTransportFailure, asked).unwrap().code(), "KAFKA_TLS");
        assert_eq!(refusal(Code::Authentication, "x").unwrap().code(), "KAFKA_AUTHENTICATION");
    }
}
