//! Tables as one side's snapshot has them: columns, and the parts that hold the rows.

use std::collections::HashMap;

use pg::{QualifiedName, Result, Session};

/// A table, plain or partitioned.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: QualifiedName,
    pub oid: u32,
    /// `pg_class.relkind`
    pub kind: char,
    pub columns: Vec<RelationColumn>,
    /// Where its own rows are: itself, or its leaf partitions.
    pub parts: Vec<Part>,
    /// Itself and everything that inherits from it.
    pub storage: Vec<u32>,
    with_children: bool,
}

#[derive(Clone, Debug)]
pub struct RelationColumn {
    pub name: String,
    pub type_oid: u32,
    pub modifier: i32,
    pub generated: bool,
}

/// Something that is scanned by itself.
#[derive(Clone, Debug)]
pub struct Part {
    /// As it stands behind FROM.
    pub from: String,
    pub pages: u64,
    /// Has ctids in the order of its pages.
    pub heap: bool,
}

impl Relation {
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&RelationColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    #[must_use]
    pub fn pages(&self) -> u64 {
        self.parts.iter().map(|part| part.pages).sum()
    }

    /// The whole table behind FROM.
    #[must_use]
    pub fn clause(&self) -> String {
        if self.kind == 'p' || self.with_children {
            self.name.to_string()
        } else {
            format!("ONLY {}", self.name)
        }
    }

    /// Reads the rows of inheritance children as its own.
    pub fn read_with_children(&mut self) {
        self.with_children = true;
        self.parts = vec![Part { from: self.clause(), pages: self.pages(), heap: false }];
    }

    /// Where a row is, as text over a table called `t`.
    #[must_use]
    pub fn place(&self) -> &'static str {
        match self.kind {
            'r' | 'm' if !self.with_children => "t.ctid::text",
            'v' | 'f' => "NULL::text",
            _ => "t.tableoid::regclass::text || ' ' || t.ctid::text",
        }
    }
}

/// What there is of `names`. Missing ones are missing in the answer.
pub async fn describe(
    session: &Session,
    names: &[&QualifiedName],
) -> Result<HashMap<QualifiedName, Relation>> {
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let tables: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let rows = session
        .query(
            "SELECT DISTINCT c.oid, n.nspname, c.relname, c.relkind::text
             FROM unnest($1::text[], $2::text[]) AS wanted(s, t)
             JOIN pg_namespace n ON n.nspname = wanted.s
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.t
             WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v')",
            &[&schemas, &tables],
        )
        .await?;
    let mut relations: HashMap<u32, Relation> = HashMap::new();
    for row in &rows {
        let oid: u32 = row.try_get(0)?;
        let kind: String = row.try_get(3)?;
        let name = QualifiedName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?);
        let kind = kind.chars().next().unwrap_or('?');
        relations.insert(
            oid,
            Relation {
                name,
                oid,
                kind,
                columns: Vec::new(),
                parts: Vec::new(),
                storage: Vec::new(),
                with_children: false,
            },
        );
    }
    let oids: Vec<u32> = relations.keys().copied().collect();
    columns(session, &oids, &mut relations).await?;
    storage(session, &oids, &mut relations).await?;
    Ok(relations.into_values().map(|relation| (relation.name.clone(), relation)).collect())
}

async fn columns(session: &Session, oids: &[u32], relations: &mut HashMap<u32, Relation>) -> Result<()> {
    let generated = if session.version().major() >= 12 { "attgenerated <> ''" } else { "false" };
    let rows = session
        .query(
            &format!(
                "SELECT attrelid, attname, atttypid, atttypmod, {generated} FROM pg_attribute
                 WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum"
            ),
            &[&oids],
        )
        .await?;
    for row in &rows {
        if let Some(relation) = relations.get_mut(&row.try_get::<_, u32>(0)?) {
            relation.columns.push(RelationColumn {
                name: row.try_get(1)?,
                type_oid: row.try_get(2)?,
                modifier: row.try_get(3)?,
                generated: row.try_get(4)?,
            });
        }
    }
    Ok(())
}

/// Parts are read by their own names only where we may; otherwise through the root, in one piece. A table that is being altered is not
/// measured: its size would be waited for with the tables of everybody else.
async fn storage(session: &Session, oids: &[u32], relations: &mut HashMap<u32, Relation>) -> Result<()> {
    let rows = session
        .query(
            "WITH RECURSIVE tree(root, oid) AS (
                 SELECT o, o FROM unnest($1::oid[]) AS o
               UNION
                 SELECT tree.root, i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
             )
             SELECT tree.root, c.oid, c.relkind::text, n.nspname, c.relname,
                    CASE WHEN c.oid = ANY (locked.oids) THEN c.relpages::int8
                         ELSE coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int8, 0) END,
                    coalesce(has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), false)
             FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace,
                  (SELECT ARRAY(SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS oids OFFSET 0) AS locked
             ORDER BY c.oid",
            &[&oids],
        )
        .await?;
    let mut readable: HashMap<u32, bool> = HashMap::new();
    for row in &rows {
        let (root, oid): (u32, u32) = (row.try_get(0)?, row.try_get(1)?);
        let Some(relation) = relations.get_mut(&root) else { continue };
        let kind: String = row.try_get(2)?;
        relation.storage.push(oid);
        // Children of a plain table are tables of their own.
        if kind == "p" || (oid != root && relation.kind != 'p') {
            continue;
        }
        let name = QualifiedName::new(row.try_get::<_, String>(3)?, row.try_get::<_, String>(4)?);
        let pages: i64 = row.try_get(5)?;
        let may_read: bool = row.try_get(6)?;
        *readable.entry(root).or_insert(true) &= may_read;
        relation.parts.push(Part {
            from: format!("ONLY {name}"),
            pages: u64::try_from(pages).unwrap_or(0),
            heap: kind != "f" && kind != "v",
        });
    }
    for (oid, relation) in relations.iter_mut() {
        if relation.kind == 'p' && readable.get(oid) == Some(&false) {
            let part = Part { from: relation.clause(), pages: relation.pages(), heap: false };
            relation.parts = vec![part];
        }
    }
    Ok(())
}
