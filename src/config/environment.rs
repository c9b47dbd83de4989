//! Variables that begin as ours do and are no keys.

use super::Field;
use super::nearest::nearest;

/// What scripts/, the tests and the benchmarks use for themselves; exact names, or beginnings that end with an underscore.
const OUR_SCRIPTS: &[&str] = &[
    "WALFERRY_CACHE",
    "WALFERRY_DEBEZIUM",
    "WALFERRY_ENGINE",
    "WALFERRY_KAFKA",
    "WALFERRY_PG_",
    "WALFERRY_TEST_",
];

/// Not meant as a key: read elsewhere, our scripts', or set by Kubernetes for a service named `walferry` or `walferry-…`.
pub fn is_known(name: &str, value: &str) -> bool {
    let ours = |known: &&str| if known.ends_with('_') { name.starts_with(*known) } else { name == *known };
    name == "WALFERRY_CONFIG" || OUR_SCRIPTS.iter().any(ours) || of_kubernetes(name, value)
}

/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>: `…_SERVICE_HOST`, `…_SERVICE_PORT`,
/// `…_SERVICE_PORT_<NAME>`, `…_PORT=tcp://…`, `…_PORT_5432_TCP`, `…_PORT_5432_TCP_ADDR`.
fn of_kubernetes(name: &str, value: &str) -> bool {
    let numbered = || {
        name.match_indices("_PORT_").any(|(at, port)| {
            name[at + port.len()..].split_once('_').is_some_and(|(number, rest)| {
                number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|it| rest.starts_with(it))
            })
        })
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || numbered()
}

/// ` (did you mean …?)`: the keys of that name in any section, which is what a section left out looks like, else the nearest.
pub fn meant(name: &str, fields: &[&'static Field]) -> String {
    let last = name.trim_start_matches("WALFERRY_").to_ascii_lowercase();
    let alike = fields.iter().filter(|field| field.key.rsplit('.').next() == Some(last.as_str()));
    let alike: Vec<String> = alike.map(|field| field.variable()).collect();
    if alike.is_empty() {
        let known: Vec<String> = fields.iter().map(|field| field.variable()).collect();
        return nearest(name, known.iter().map(String::as_str));
    }
    format!(" (did you mean {}?)", alike.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fields;

    #[test]
    fn variables_of_kubernetes_and_of_our_scripts_are_nobody_s_mistake() {
        for (name, value) in [
            ("WALFERRY_SERVICE_HOST", "10.0.0.1"),
            ("WALFERRY_SERVICE_PORT_HTTP", "80"),
            ("WALFERRY_PORT", "tcp://10.0.0.1:80"),
            ("WALFERRY_KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("WALFERRY_KAFKA", "/opt/kafka"),
            ("WALFERRY_PG_17", "/usr/lib/postgresql/17/bin"),
            ("WALFERRY_TEST_SEED", "1"),
            ("WALFERRY_CONFIG", "/etc/walferry.toml"),
        ] {
            assert!(is_known(name, value), "{name}");
        }
        for (name, value) in [
            ("WALFERRY_TARGT", "x"),
            ("WALFERRY_PORT", "80"),
            ("WALFERRY_HTTP_PORT", "80"),
            ("WALFERRY_CACHES", "x"),
        ] {
            assert!(!is_known(name, value), "{name}");
        }
    }

    #[test]
    fn what_was_meant_is_found_by_its_end_or_by_its_letters() {
        for (name, expected) in [
            ("WALFERRY_TARGT", " (did you mean \"WALFERRY_TARGET\"?)"),
            ("WALFERRY_SLOT", " (did you mean WALFERRY_RUN_SLOT?)"),
            (
                "WALFERRY_JOBS",
                " (did you mean WALFERRY_COPY_JOBS or WALFERRY_INDEX_JOBS or WALFERRY_VERIFY_JOBS?)",
            ),
            ("WALFERRY_SOMETHING_ELSE_ENTIRELY", ""),
        ] {
            assert_eq!(meant(name, &fields()), expected, "{name}");
        }
    }
}
