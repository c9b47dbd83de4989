//! Binary where both sides' columns read the same bytes the same way, text everywhere else.

use super::ColumnShape;

/// How the values of one COPY travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Binary,
    Text,
}

impl Format {
    /// The format for `columns`; both sides' shapes are looked up by name. `source_major` and `target_major` are server versions.
    ///
    /// The binary format of a type is a matter of its receive function: `int2` does not fit `int4`, although its text does. A column
    /// that one side lacks makes it text, so that the server reports the name.
    #[must_use]
    pub fn choose(
        columns: &[String],
        source: &[ColumnShape],
        target: &[ColumnShape],
        source_major: u32,
        target_major: u32,
    ) -> Format {
        let binary = columns.iter().all(|name| {
            let type_of = |side: &[ColumnShape]| {
                side.iter().find(|column| column.name == *name).and_then(|column| column.binary_type.clone())
            };
            match (type_of(source), type_of(target)) {
                (Some(from), Some(to)) => from == to && same_bytes(&from, source_major, target_major),
                _ => false,
            }
        });
        if binary { Format::Binary } else { Format::Text }
    }

    /// The option of COPY.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Format::Binary => "FORMAT binary",
            Format::Text => "FORMAT text",
        }
    }
}

/// Before 17 an interval had no infinity: its bytes would be taken for a finite value, its text is refused. The receive function of
/// tsquery refuses the empty query that its own send function wrote.
fn same_bytes(type_name: &str, source_major: u32, target_major: u32) -> bool {
    if matches!(type_name, "pg_catalog.tsquery" | "pg_catalog._tsquery") {
        return false;
    }
    let interval = type_name == "pg_catalog.interval" || type_name == "pg_catalog._interval";
    !interval || (source_major >= 17) == (target_major >= 17) || source_major < 17
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str, binary_type: Option<&str>) -> ColumnShape {
        ColumnShape {
            name: name.into(),
            binary_type: binary_type.map(str::to_owned),
            ..ColumnShape::default()
        }
    }

    fn choose(source: &[ColumnShape], target: &[ColumnShape], majors: (u32, u32)) -> Format {
        let columns: Vec<String> = source.iter().map(|column| column.name.clone()).collect();
        Format::choose(&columns, source, target, majors.0, majors.1)
    }

    #[test]
    fn binary_only_where_every_type_is_the_same() {
        let source = [shape("a", Some("pg_catalog.int4")), shape("b", Some("pg_catalog.text"))];
        let other_order =
            [shape("b", Some("pg_catalog.text")), shape("x", None), shape("a", Some("pg_catalog.int4"))];
        assert_eq!(choose(&source, &other_order, (15, 15)), Format::Binary);
        let wider = [shape("a", Some("pg_catalog.int8")), shape("b", Some("pg_catalog.text"))];
        assert_eq!(choose(&source, &wider, (15, 15)), Format::Text);
        let missing = [shape("a", Some("pg_catalog.int4"))];
        assert_eq!(choose(&source, &missing, (15, 15)), Format::Text);
        let extension = [shape("a", None)];
        assert_eq!(choose(&extension, &extension, (15, 15)), Format::Text);
    }

    #[test]
    fn an_infinite_interval_is_not_smuggled_into_an_old_server() {
        let interval = [shape("a", Some("pg_catalog.interval"))];
        assert_eq!(choose(&interval, &interval, (17, 16)), Format::Text);
        assert_eq!(choose(&interval, &interval, (16, 17)), Format::Binary);
        assert_eq!(choose(&interval, &interval, (18, 17)), Format::Binary);
        assert_eq!(choose(&interval, &interval, (15, 10)), Format::Binary);
    }

    #[test]
    fn a_tsquery_travels_as_text() {
        let query = [shape("a", Some("pg_catalog.tsquery"))];
        assert_eq!(choose(&query, &query, (15, 15)), Format::Text);
    }
}
