//! What we have to know of a certificate beyond what webpki tells.

use ring::digest;
use rustls::crypto::WebPkiSupportedAlgorithms;

use super::der::{
    BIT_STRING, BOOLEAN, Element, Elements, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, SET,
    UTC_TIME,
};

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// GeneralName: [2] dNSName, [7] iPAddress.
pub(super) const SAN_DNS: u8 = 0x82;
pub(super) const SAN_IP: u8 = 0x87;

/// A certificate, borrowed from its DER.
pub(super) struct Certificate<'a> {
    der: &'a [u8],
    signed: &'a [u8],
    signature_algorithm: Element<'a>,
    signature: &'a [u8],
    version: u8,
    issuer: &'a [u8],
    subject: Element<'a>,
    /// Seconds since 1970.
    not_before: i64,
    not_after: i64,
    key_algorithm: &'a [u8],
    key: &'a [u8],
    extensions: Option<Elements<'a>>,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut parts = Elements(der).expect(SEQUENCE)?.elements();
        let signed = parts.expect(SEQUENCE)?;
        let signature_algorithm = parts.expect(SEQUENCE)?;
        let signature = bits(parts.expect(BIT_STRING)?)?;

        let mut fields = signed.elements();
        let version = match fields.optional(0xa0) {
            Some(version) => version.elements().expect(INTEGER)?.content.last()?.saturating_add(1),
            None => 1,
        };
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.whole;
        let mut validity = fields.expect(SEQUENCE)?.elements();
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        let mut key_info = fields.expect(SEQUENCE)?.elements();
        let key_algorithm = key_info.expect(SEQUENCE)?.content;
        let key = bits(key_info.expect(BIT_STRING)?)?;
        let extensions = fields.find(|field| field.tag == 0xa3);
        let extensions = match extensions {
            Some(extensions) => Some(extensions.elements().expect(SEQUENCE)?.elements()),
            None => None,
        };
        Some(Certificate {
            der,
            signed: signed.whole,
            signature_algorithm,
            signature,
            version,
            issuer,
            subject,
            not_before,
            not_after,
            key_algorithm,
            key,
            extensions,
        })
    }

    pub(super) fn version(&self) -> u8 {
        self.version
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject.whole
    }

    pub(super) fn dates(&self) -> (i64, i64) {
        (self.not_before, self.not_after)
    }

    /// Whether `message` was signed with this certificate's key in one of these ways.
    pub(super) fn has_signed(
        &self,
        message: &[u8],
        signature: &[u8],
        ways: &[&dyn rustls::pki_types::SignatureVerificationAlgorithm],
    ) -> bool {
        ways.iter().any(|way| {
            way.public_key_alg_id().as_ref() == self.key_algorithm
                && way.verify_signature(self.key, message, signature).is_ok()
        })
    }

    /// Whether `issuer` has signed this certificate.
    pub(super) fn is_signed_by(
        &self,
        issuer: &Certificate<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        let ways: Vec<_> = algorithms
            .all
            .iter()
            .copied()
            .filter(|way| way.signature_alg_id().as_ref() == self.signature_algorithm.content)
            .collect();
        self.issuer == issuer.subject.whole && issuer.has_signed(self.signed, self.signature, &ways)
    }

    /// Entries of the subject alternative name: tag and content.
    pub(super) fn alternative_names(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let extension = self.extensions.into_iter().flatten().find_map(|extension| {
            let mut parts = extension.elements();
            (parts.expect(OID)?.content == SUBJECT_ALT_NAME).then_some(())?;
            parts.optional(BOOLEAN);
            Elements(parts.expect(OCTET_STRING)?.content).expect(SEQUENCE)
        });
        extension.into_iter().flat_map(Element::elements).map(|name| (name.tag, name.content))
    }

    /// The first CN of the subject.
    pub(super) fn common_name(&self) -> Option<&'a str> {
        let sets = self.subject.elements().filter(|set| set.tag == SET);
        let mut attributes = sets.flat_map(Element::elements);
        attributes.find_map(|attribute| {
            let mut parts = attribute.elements();
            (parts.expect(OID)?.content == COMMON_NAME).then_some(())?;
            std::str::from_utf8(parts.next()?.content).ok()
        })
    }

    /// `tls-server-end-point`: the certificate's hash by the algorithm of its own signature, SHA-256 for weaker ones. `None` where the
    /// algorithm has no hash of its own (Ed25519): such a server can't be bound to.
    pub(super) fn end_point_hash(&self) -> Option<Vec<u8>> {
        let mut parts = self.signature_algorithm.elements();
        let algorithm = match parts.expect(OID)?.content {
            // 1.2.840.113549.1.1: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512; PSS
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind] => match kind {
                4 | 5 | 11 => &digest::SHA256,
                12 => &digest::SHA384,
                13 => &digest::SHA512,
                10 => pss_hash(parts)?,
                _ => return None,
            },
            // 1.2.840.10045.4: ECDSA with SHA-1, and with SHA-2
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => &digest::SHA256,
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, kind] => match kind {
                2 => &digest::SHA256,
                3 => &digest::SHA384,
                4 => &digest::SHA512,
                _ => return None,
            },
            _ => return None,
        };
        Some(digest::digest(algorithm, self.der).as_ref().to_vec())
    }
}

/// The hash of RSASSA-PSS parameters; SHA-1, the default, counts as SHA-256.
fn pss_hash(mut parts: Elements<'_>) -> Option<&'static digest::Algorithm> {
    let Some(hash) = parts.optional(SEQUENCE).and_then(|parameters| parameters.elements().optional(0xa0))
    else {
        return Some(&digest::SHA256);
    };
    match hash.elements().expect(SEQUENCE)?.elements().expect(OID)?.content {
        // 2.16.840.1.101.3.4.2
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, kind] => match kind {
            1 => Some(&digest::SHA256),
            2 => Some(&digest::SHA384),
            3 => Some(&digest::SHA512),
            _ => None,
        },
        _ => Some(&digest::SHA256),
    }
}

/// The bytes of a bit string without unused bits.
fn bits(element: Element<'_>) -> Option<&[u8]> {
    element.content.strip_prefix(&[0])
}

/// UTCTime or GeneralizedTime as seconds since 1970.
fn time(element: Element<'_>) -> Option<i64> {
    let text = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match element.tag {
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    // Days from civil, proleptic Gregorian: years begin in March, so that the leap day is the last one.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
