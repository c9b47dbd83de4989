//! Numbers of partitions of single tables' topics.

use std::collections::BTreeMap;

use pg::QualifiedName;

use super::Value;

/// `schema.table=N` for each; names as they are, without quotes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TablePartitions(pub BTreeMap<QualifiedName, i32>);

impl TablePartitions {
    const EXPECTED: &'static str =
        "expected schema.table=N, several with commas between them; N from 1 to 10000";
    const MOST: i32 = 10_000;

    fn one(text: &str) -> Option<(QualifiedName, i32)> {
        let (table, number) = text.trim().rsplit_once('=')?;
        let (schema, name) = table.trim().split_once('.')?;
        let number = number.trim().parse().ok().filter(|number| (1..=Self::MOST).contains(number))?;
        (!schema.is_empty() && !name.is_empty()).then(|| (QualifiedName::new(schema, name), number))
    }
}

impl Value for TablePartitions {
    const KIND: &'static str = "schema.table=N, …";

    fn read(text: &str) -> Result<Self, String> {
        let items = text.split(',').filter(|item| !item.trim().is_empty());
        items
            .map(Self::one)
            .collect::<Option<_>>()
            .map(TablePartitions)
            .ok_or_else(|| Self::EXPECTED.to_owned())
    }

    fn show(&self) -> String {
        let items: Vec<String> = self
            .0
            .iter()
            .map(|(table, number)| format!("{}.{}={number}", table.schema, table.name))
            .collect();
        items.join(",")
    }

    fn read_list(items: &[String]) -> Result<Self, String> {
        Self::read(&items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_numbers_are_read_and_shown() {
        let read = TablePartitions::read("shop.orders=12, public.Odd=Name=3").unwrap();
        assert_eq!(read.0[&QualifiedName::new("shop", "orders")], 12);
        assert_eq!(read.0[&QualifiedName::new("public", "Odd=Name")], 3);
        assert_eq!(TablePartitions::read(&read.show()).unwrap(), read);
        assert_eq!(TablePartitions::read("").unwrap(), TablePartitions::default());
        for text in
            ["orders=12", "shop.orders", "shop.orders=0", "shop.orders=x", ".orders=1", "shop.orders=20000"]
        {
            assert!(TablePartitions::read(text).is_err(), "{text}");
        }
    }
}
