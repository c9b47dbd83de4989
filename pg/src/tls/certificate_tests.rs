//! A certificate is read as openssl made it, and no bytes make the reader panic.

use proptest::prelude::*;

use super::*;

/// `openssl req -x509 -newkey ec -subj /CN=db.example.com -addext subjectAltName=DNS:db.example.com,IP:127.0.0.1`
const SELF_SIGNED: &[u8] = include_bytes!("testdata/self_signed.der");

#[test]
fn a_certificate_is_read() {
    let certificate = Certificate::parse(SELF_SIGNED).unwrap();
    assert_eq!(certificate.version(), 3);
    assert!(certificate.is_self_issued());
    assert_eq!(certificate.common_name(), Some("db.example.com"));
    let names: Vec<_> = certificate.alternative_names().collect();
    assert_eq!(names, [(SAN_DNS, &b"db.example.com"[..]), (SAN_IP, &[127, 0, 0, 1][..])]);
    let (not_before, not_after) = certificate.dates();
    assert_eq!(not_after - not_before, 36_500 * 86_400);
    assert_eq!(certificate.end_point_hash().unwrap(), digest::digest(&digest::SHA256, SELF_SIGNED).as_ref());
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    assert!(certificate.is_signed_by(&certificate, &algorithms));
    let mut other = SELF_SIGNED.to_vec();
    let at = other.windows(3).position(|bytes| bytes == b"db.").unwrap();
    other[at] = b'x';
    let other = Certificate::parse(&other).unwrap();
    assert!(!other.is_signed_by(&certificate, &algorithms));
}

#[test]
fn times_are_counted_from_1970() {
    for (tag, text, seconds) in [
        (UTC_TIME, "700101000000Z", 0),
        (UTC_TIME, "240229235959Z", 1_709_251_199),
        (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
        (UTC_TIME, "991231000000Z", 946_598_400),
    ] {
        let element = Element { tag, content: text.as_bytes(), whole: &[] };
        assert_eq!(time(element), Some(seconds), "{text}");
    }
}

/// Every accessor.
fn read(der: &[u8]) {
    if let Some(certificate) = Certificate::parse(der) {
        let _ = (
            certificate.common_name(),
            certificate.end_point_hash(),
            certificate.alternative_names().count(),
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
    }

    #[test]
    fn damaged_certificates_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut der = SELF_SIGNED.to_vec();
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        read(&der);
    }
}
