//! Names of outbox tables as they are given.
//!
//! Debezium's lists hold names as they are (`public.OutboxEvent`), SQL folds what is not quoted. So a name without quotes is looked for as it is,
//! then folded; one with quotes is what SQL reads.

use pg::{QualifiedName, quote_ident};

/// Where a table is that is named without a schema.
const SCHEMA: &str = "public";

/// The name as it is; None: it has quotes.
pub fn literal(given: &str) -> Option<QualifiedName> {
    let (schema, name) = halves(given);
    (!given.contains('"')).then(|| QualifiedName::new(schema.unwrap_or(SCHEMA), name))
}

/// The name as SQL reads it.
pub fn sql(given: &str) -> String {
    match halves(given) {
        (Some(_), _) => given.to_owned(),
        (None, name) => format!("{SCHEMA}.{name}"),
    }
}

/// The name of a table that is to be made: what has no quotes gets them.
pub fn new(given: &str) -> String {
    literal(given).map_or_else(|| sql(given), |name| name.to_string())
}

/// Its schema, if one is named.
pub fn schema(given: &str) -> Option<String> {
    let (schema, _) = halves(given);
    schema.map(|schema| if given.contains('"') { schema.to_owned() } else { quote_ident(schema) })
}

/// Schema and table, at the first dot that is not within quotes.
fn halves(given: &str) -> (Option<&str>, &str) {
    let mut quoted = false;
    let dot = given.find(|c| {
        quoted ^= c == '"';
        c == '.' && !quoted
    });
    dot.map_or((None, given), |dot| (Some(&given[..dot]), &given[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_they_are_and_as_sql_reads_them() {
        for (given, new_one, read, of) in [
            ("Box", "\"public\".\"Box\"", "public.Box", None),
            ("Shop.Box", "\"Shop\".\"Box\"", "Shop.Box", Some("\"Shop\"")),
            ("\"Box\"", "public.\"Box\"", "public.\"Box\"", None),
            ("\"a.b\"", "public.\"a.b\"", "public.\"a.b\"", None),
            ("Shop.\"Box\"", "Shop.\"Box\"", "Shop.\"Box\"", Some("Shop")),
        ] {
            assert_eq!((new(given).as_str(), sql(given).as_str()), (new_one, read), "{given}");
            assert_eq!(schema(given).as_deref(), of, "{given}");
        }
        assert_eq!(literal("public.OutboxEvent"), Some(QualifiedName::new("public", "OutboxEvent")));
        assert_eq!(literal("public.\"Box\""), None);
    }
}
