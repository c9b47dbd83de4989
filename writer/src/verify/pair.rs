//! A table of the source and what it is compared with on the target: by which columns, under which key, in which form.

use std::collections::HashMap;

use pg::{Class, Error, QualifiedName, Result, Session};
use pipeline::TableSpec;

use super::relation::{self, Relation};
use super::side::Which;
use super::types::Types;
use super::value::{Conversion, Sent};

/// A table to compare.
#[derive(Clone, Debug)]
pub struct VerifyTable {
    pub spec: TableSpec,
    pub target: QualifiedName,
    /// Only these keys, as text in the order of `spec.key`; `None`: the whole table.
    pub keys: Option<Vec<Vec<Option<String>>>>,
}

impl VerifyTable {
    /// The whole table, under the same name on both sides.
    #[must_use]
    pub fn whole(spec: TableSpec) -> VerifyTable {
        VerifyTable { target: spec.name.clone(), spec, keys: None }
    }
}

/// Both sides of a table, ready to be read.
pub struct Pair {
    pub sides: [Reads; 2],
    /// Empty: rows are told apart by all they hold.
    pub key: Vec<String>,
    pub columns: Vec<String>,
    /// Published, but not on the target.
    pub missing_columns: Vec<String>,
    /// Made by the target itself.
    pub generated_columns: Vec<String>,
    /// A power of two.
    pub buckets: u32,
}

/// How one side of a table is read. Expressions are over a table called `t`.
pub struct Reads {
    pub relation: Relation,
    /// In the order of [`Pair::columns`]: comparable with the other side's.
    pub row: Vec<Expression>,
    /// In the order of [`Pair::key`].
    pub key: Vec<KeyColumn>,
    pub filter: Option<String>,
}

pub struct Expression {
    pub sql: String,
    pub bytea: bool,
}

pub struct KeyColumn {
    /// `t."id"`
    pub column: String,
    pub comparable: String,
    /// The stored type, to make a value from text.
    pub r#type: String,
    /// Schema of the type's `=`.
    pub equality: String,
}

impl Pair {
    #[must_use]
    pub fn side(&self, which: Which) -> &Reads {
        &self.sides[which.index()]
    }
}

/// Looks everything up on both sides, in the transactions that are open there. An error per table that can't be compared.
pub async fn prepare(
    source: &Session,
    target: &Session,
    tables: &[VerifyTable],
) -> Result<Vec<Result<Pair>>> {
    let source_names: Vec<&QualifiedName> = tables.iter().map(|table| &table.spec.name).collect();
    let target_names: Vec<&QualifiedName> = tables.iter().map(|table| &table.target).collect();
    let catalogs = [
        Catalog::load(source, &source_names).await.map_err(|e| Which::Source.blame(e))?,
        Catalog::load(target, &target_names).await.map_err(|e| Which::Target.blame(e))?,
    ];
    let conversions = Conversions::load(source, target, tables, &catalogs).await?;
    let sent = Sent::between(source.version().major(), target.version().major());
    Ok(tables.iter().map(|table| pair(table, &catalogs, &conversions, sent)).collect())
}

struct Catalog {
    relations: HashMap<QualifiedName, Relation>,
    types: Types,
}

impl Catalog {
    async fn load(session: &Session, names: &[&QualifiedName]) -> Result<Catalog> {
        let relations = relation::describe(session, names).await?;
        let used = relations.values().flat_map(|relation| &relation.columns).map(|column| column.type_oid);
        let types = Types::load(session, used).await?;
        Ok(Catalog { relations, types })
    }

    fn relation(&self, name: &QualifiedName, which: Which) -> Result<&Relation> {
        self.relations.get(name).ok_or_else(|| {
            Error::new(
                Class::Unverifiable,
                "TABLE_MISSING",
                format!("table {name} does not exist on the {}", which.name()),
            )
        })
    }
}

fn pair(
    table: &VerifyTable,
    [source, target]: &[Catalog; 2],
    conversions: &Conversions,
    sent: Sent,
) -> Result<Pair> {
    let on_source = source.relation(&table.spec.name, Which::Source)?;
    let on_target = target.relation(&table.target, Which::Target)?;
    let mut pair = Pair {
        sides: [
            Reads::new(on_source.clone(), table.spec.filter.clone()),
            Reads::new(on_target.clone(), None),
        ],
        key: Vec::new(),
        columns: Vec::new(),
        missing_columns: Vec::new(),
        generated_columns: Vec::new(),
        buckets: buckets(on_source.pages().max(on_target.pages())),
    };
    let mut expressions: HashMap<&str, [KeyColumn; 2]> = HashMap::new();
    for column in &table.spec.columns {
        let name = column.name.as_str();
        let Some(ours) = on_source.column(name) else {
            return Err(Error::new(
                Class::Unverifiable,
                "COLUMN_MISSING",
                format!(
                    "column {} of {} does not exist on the source",
                    pg::quote_ident(name),
                    table.spec.name
                ),
            ));
        };
        let Some(theirs) = on_target.column(name) else {
            pair.missing_columns.push(name.to_owned());
            continue;
        };
        if theirs.generated {
            pair.generated_columns.push(name.to_owned());
            continue;
        }
        let reference = format!("t.{}", pg::quote_ident(name));
        let conversion = conversions.of(&table.spec.name, name);
        let trimmed = format!("rtrim(({reference})::text, ' ')");
        let (source_value, target_value) = match conversion {
            Conversion::None => (
                sent.comparable(&reference, ours.type_oid, &source.types),
                sent.comparable(&reference, theirs.type_oid, &target.types),
            ),
            Conversion::Trimmed => (trimmed.clone(), trimmed),
            Conversion::ToTarget { r#type } => (
                sent.comparable(&format!("({reference})::text::{type}"), theirs.type_oid, &target.types),
                sent.comparable(&reference, theirs.type_oid, &target.types),
            ),
        };
        let key = |comparable: &str, oid: u32, types: &Types| {
            let stored = types.get(types.stored(oid, -1).0);
            KeyColumn {
                column: reference.clone(),
                comparable: comparable.to_owned(),
                r#type: stored.map_or_else(|| "pg_catalog.text".to_owned(), |t| t.quoted()),
                equality: stored.and_then(|t| t.equality.clone()).unwrap_or_else(|| "pg_catalog".to_owned()),
            }
        };
        expressions.insert(
            name,
            [
                key(&source_value, ours.type_oid, &source.types),
                key(&target_value, theirs.type_oid, &target.types),
            ],
        );
        for (which, value, column, types) in [
            (Which::Source, source_value, ours, &source.types),
            (Which::Target, target_value, theirs, &target.types),
        ] {
            let stored = types.get(types.stored(column.type_oid, -1).0);
            let bytea = stored.is_some_and(|t| t.is_builtin() && t.name == "bytea")
                && matches!(conversion, Conversion::None);
            pair.sides[which.index()].row.push(Expression { sql: value, bytea });
        }
        pair.columns.push(name.to_owned());
    }
    // A key that can't be read whole on both sides is none.
    if table.spec.key.iter().all(|name| expressions.contains_key(name.as_str())) {
        for name in &table.spec.key {
            if let Some([ours, theirs]) = expressions.remove(name.as_str()) {
                pair.sides[0].key.push(ours);
                pair.sides[1].key.push(theirs);
                pair.key.push(name.clone());
            }
        }
    }
    // What is read through the root may be a parent with children on the target.
    if table.spec.partitioned && on_target.kind == 'r' && on_target.storage.len() > 1 {
        pair.sides[1].relation.read_with_children();
    }
    Ok(pair)
}

impl Reads {
    fn new(relation: Relation, filter: Option<String>) -> Reads {
        Reads { relation, row: Vec::new(), key: Vec::new(), filter }
    }
}

/// One bucket for every 256 kB: what is read again for a difference is small, and so is what is kept of a bucket.
fn buckets(pages: u64) -> u32 {
    const MOST: u64 = 16_384;
    u32::try_from((pages / 32).clamp(1, MOST).next_power_of_two()).unwrap_or(1)
}

/// The columns whose types differ.
struct Conversions(HashMap<(QualifiedName, String), Conversion>);

impl Conversions {
    fn of(&self, table: &QualifiedName, column: &str) -> &Conversion {
        self.0.get(&(table.clone(), column.to_owned())).unwrap_or(&Conversion::None)
    }

    async fn load(
        source: &Session,
        target: &Session,
        tables: &[VerifyTable],
        [ours, theirs]: &[Catalog; 2],
    ) -> Result<Conversions> {
        let mut found = HashMap::new();
        let mut formats: HashMap<(u32, i32), String> = HashMap::new();
        for table in tables {
            let (Some(on_source), Some(on_target)) =
                (ours.relations.get(&table.spec.name), theirs.relations.get(&table.target))
            else {
                continue;
            };
            for column in &on_source.columns {
                let Some(other) = on_target.column(&column.name) else { continue };
                let (from, from_modifier) = ours.types.stored(column.type_oid, column.modifier);
                let (to, to_modifier) = theirs.types.stored(other.type_oid, other.modifier);
                let (Some(from), Some(into)) = (ours.types.get(from), theirs.types.get(to)) else { continue };
                let conversion = Conversion::between((from, from_modifier), (into, to_modifier), "");
                let conversion = match conversion {
                    Conversion::None => continue,
                    Conversion::Trimmed => Conversion::Trimmed,
                    Conversion::ToTarget { .. } => {
                        let formatted = match formats.get(&(to, to_modifier)) {
                            Some(known) => known.clone(),
                            None => {
                                let formatted =
                                    format(source, target, &into.quoted(), to, to_modifier).await?;
                                formats.insert((to, to_modifier), formatted.clone());
                                formatted
                            }
                        };
                        // A type that the source does not know: its text is compared.
                        if formatted.is_empty() {
                            continue;
                        }
                        Conversion::ToTarget { r#type: formatted }
                    }
                };
                found.insert((table.spec.name.clone(), column.name.clone()), conversion);
            }
        }
        Ok(Conversions(found))
    }
}

/// The target's type as the source writes it; empty if it has none of that name.
async fn format(source: &Session, target: &Session, quoted: &str, oid: u32, modifier: i32) -> Result<String> {
    let known: bool = source.query_one("SELECT to_regtype($1) IS NOT NULL", &[&quoted]).await?.try_get(0)?;
    if !known {
        return Ok(String::new());
    }
    Ok(target.query_one("SELECT format_type($1, $2)", &[&oid, &modifier]).await?.try_get(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_the_table_and_end() {
        assert_eq!(buckets(0), 1);
        assert_eq!(buckets(100), 4);
        assert_eq!(buckets(1 << 40), 16_384);
    }
}
