//! Is the server the one that was asked for?
//!
//! webpki verifies chains. Two kinds of certificates that it refuses and libpq takes are verified here:
//! one that is itself in the file of trusted certificates (self-signed), and one of X.509 version 1 signed by a trusted one directly.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate::Certificate;
use super::names;

/// How much is verified.
pub(super) enum Trust {
    /// Nothing: TLS against eavesdroppers only.
    Anybody,
    /// The chain.
    Authority(Arc<Anchors>),
    /// The chain, and the name.
    AuthorityAndName(Arc<Anchors>, String),
}

/// Certificates that are trusted.
pub(super) struct Anchors {
    pub(super) chains: Arc<WebPkiServerVerifier>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// A list of revoked certificates is in force: only webpki looks at it.
    pub(super) revocation: bool,
}

pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (anchors, host) = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Authority(anchors) => (anchors, None),
            Trust::AuthorityAndName(anchors, host) => (anchors, Some(host)),
        };
        let certificate = Certificate::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        match anchors.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Ok(_) => return Ok(ServerCertVerified::assertion()),
            // The chain was verified before the name; names are compared below, by libpq's rules.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => self.verify_directly(anchors, end_entity, &certificate, now, error)?,
        }
        match host {
            Some(host) if !names::is_for(&certificate, host) => Err(CertificateError::NotValidForName.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.supported_verify_schemes().contains(&signed.scheme) || is_tls12_only(signed.scheme) {
            return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier {
    /// The server holds the key of the certificate that it showed, whoever made that.
    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(certificate).ok_or(CertificateError::BadEncoding)?;
        let algorithms = &self.provider.signature_verification_algorithms;
        let ways = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        if ways.into_iter().any(|(_, ways)| certificate.has_signed(message, signed.signature(), ways)) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(CertificateError::BadSignature.into())
    }

    /// The two kinds that webpki does not take; `otherwise` is what it said.
    fn verify_directly(
        &self,
        anchors: &Anchors,
        der: &CertificateDer<'_>,
        certificate: &Certificate<'_>,
        now: UnixTime,
        otherwise: Error,
    ) -> Result<(), Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let trusted = if certificate.is_self_issued() {
            anchors.certificates.iter().any(|anchor| anchor == der)
        } else {
            let mut known = anchors.certificates.iter().filter_map(|anchor| Certificate::parse(anchor));
            certificate.version() == 1
                && known.any(|anchor| in_time(&anchor, now) && certificate.is_signed_by(&anchor, algorithms))
        };
        if !trusted || anchors.revocation {
            return Err(otherwise);
        }
        if in_time(certificate, now) { Ok(()) } else { Err(CertificateError::Expired.into()) }
    }
}

fn in_time(certificate: &Certificate<'_>, now: UnixTime) -> bool {
    let (not_before, not_after) = certificate.dates();
    i64::try_from(now.as_secs()).is_ok_and(|now| not_before <= now && now <= not_after)
}

fn is_tls12_only(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    )
}
