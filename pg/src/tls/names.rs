//! Whether a certificate is for a host, by libpq's rules: the CN counts where no alternative name of the host's kind is there.

use std::net::IpAddr;

use super::certificate::{Certificate, SAN_DNS, SAN_IP};

/// libpq's `pq_verify_peer_name_matches_certificate`.
pub(super) fn is_for(certificate: &Certificate<'_>, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    // No wildcard stands for a part of an address.
    let same = |name: &str| if address.is_some() { name == host } else { matches(name, host) };
    let mut has_kind = false;
    for (kind, name) in certificate.alternative_names() {
        match (kind, address) {
            (SAN_DNS, _) => {
                has_kind |= address.is_none();
                if std::str::from_utf8(name).is_ok_and(same) {
                    return true;
                }
            }
            (SAN_IP, Some(address)) => {
                has_kind = true;
                let equal = match address {
                    IpAddr::V4(address) => name == address.octets(),
                    IpAddr::V6(address) => name == address.octets(),
                };
                if equal {
                    return true;
                }
            }
            _ => {}
        }
    }
    !has_kind && certificate.common_name().is_some_and(same)
}

/// Equal but for case, or `*.` in place of the host's first label.
fn matches(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !label.is_empty() && domain.contains('.') && domain.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, expected) in [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", false),
            ("d*.example.com", "db.example.com", false),
        ] {
            assert_eq!(matches(name, host), expected, "{name} {host}");
        }
    }
}
