//! The types of columns, as far as their text form depends on the server's version or on what both sides call different.

use std::collections::HashMap;

use pg::{Result, Session};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Type {
    pub schema: String,
    pub name: String,
    pub shape: Shape,
    /// Schema of its own `=`, where it is not the one of `pg_catalog`.
    pub equality: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    Plain,
    Domain { base: u32, modifier: i32 },
    Array { element: u32 },
    Composite { fields: Vec<(String, u32)> },
    Range { bound: u32 },
}

impl Type {
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.schema == "pg_catalog"
    }

    /// The type in SQL. `format_type` without a modifier would not do: it says `character`, which is `character(1)`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", pg::quote_ident(&self.schema), pg::quote_ident(&self.name))
    }
}

/// Types by OID, with everything they consist of.
#[derive(Clone, Default, Debug)]
pub struct Types(HashMap<u32, Type>);

impl Types {
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&Type> {
        self.0.get(&oid)
    }

    /// The type that a value is stored as, with its modifier: domains taken off.
    #[must_use]
    pub fn stored(&self, mut oid: u32, mut modifier: i32) -> (u32, i32) {
        while let Some(Shape::Domain { base, modifier: inner }) = self.get(oid).map(|t| &t.shape) {
            (oid, modifier) = (*base, *inner);
        }
        (oid, modifier)
    }

    /// The types `wanted`, and what they consist of.
    pub async fn load(session: &Session, wanted: impl IntoIterator<Item = u32>) -> Result<Types> {
        let mut types = Types::default();
        let mut missing: Vec<u32> = wanted.into_iter().collect();
        while !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            types.add(session, &missing).await?;
            let parts = types.0.values().flat_map(Type::parts).filter(|oid| !types.0.contains_key(oid));
            // What the catalog does not have is not asked for again.
            missing = parts.filter(|oid| missing.binary_search(oid).is_err()).collect();
        }
        Ok(types)
    }

    async fn add(&mut self, session: &Session, oids: &[u32]) -> Result<()> {
        let rows = session
            .query(
                "SELECT t.oid, n.nspname, t.typname, t.typtype::text, t.typbasetype, t.typtypmod,
                        CASE WHEN t.typcategory = 'A' AND t.typlen = -1 THEN t.typelem ELSE 0 END,
                        coalesce(r.rngsubtype, 0), o.nspname,
                        ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
                              AND NOT a.attisdropped AND t.typrelid <> 0 ORDER BY a.attnum),
                        ARRAY(SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
                              AND NOT a.attisdropped AND t.typrelid <> 0 ORDER BY a.attnum)
                 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                 LEFT JOIN pg_range r ON r.rngtypid = t.oid
                 LEFT JOIN LATERAL (SELECT s.nspname FROM pg_operator o JOIN pg_namespace s ON s.oid = o.oprnamespace
                                    WHERE o.oprname = '=' AND o.oprleft = t.oid AND o.oprright = t.oid
                                    AND s.nspname <> 'pg_catalog' LIMIT 1) o ON true
                 WHERE t.oid = ANY ($1)",
                &[&oids],
            )
            .await?;
        for row in &rows {
            let typtype: String = row.try_get(3)?;
            let (base, modifier): (u32, i32) = (row.try_get(4)?, row.try_get(5)?);
            let (element, bound): (u32, u32) = (row.try_get(6)?, row.try_get(7)?);
            let names: Vec<String> = row.try_get(9)?;
            let field_types: Vec<u32> = row.try_get(10)?;
            let shape = match typtype.as_str() {
                "d" => Shape::Domain { base, modifier },
                "c" => Shape::Composite { fields: names.into_iter().zip(field_types).collect() },
                "r" => Shape::Range { bound },
                _ if element != 0 => Shape::Array { element },
                _ => Shape::Plain,
            };
            let equality = row.try_get(8)?;
            self.0.insert(
                row.try_get(0)?,
                Type { schema: row.try_get(1)?, name: row.try_get(2)?, shape, equality },
            );
        }
        Ok(())
    }
}

impl Type {
    fn parts(&self) -> Vec<u32> {
        match &self.shape {
            Shape::Plain => Vec::new(),
            Shape::Domain { base, .. } => vec![*base],
            Shape::Array { element } => vec![*element],
            Shape::Composite { fields } => fields.iter().map(|(_, oid)| *oid).collect(),
            Shape::Range { bound } => vec![*bound],
        }
    }
}

#[cfg(test)]
impl Types {
    pub fn of(types: impl IntoIterator<Item = (u32, Type)>) -> Types {
        Types(types.into_iter().collect())
    }
}
