//! Which tables a run is about: `--schema`, `--exclude-schema`, `--table`, `--exclude-table`.
//!
//! The patterns mean what they mean to pg_dump, which makes the target's schema from the same ones. So a table pattern without a
//! schema matches what a plain name would find: tables that are visible in the role's default `search_path`.
//! <https://www.postgresql.org/docs/current/app-pgdump.html>

use std::collections::HashSet;

use pg::{QualifiedName, Result, Session, quote_literal};

use super::Pattern;

/// The selection's patterns, as given. Empty: everything but system schemas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    pub schemas: Vec<String>,
    pub exclude_schemas: Vec<String>,
    pub tables: Vec<String>,
    pub exclude_tables: Vec<String>,
}

/// Schemas that are never a user's, as a condition over `n.nspname`.
pub(crate) const USER_SCHEMA: &str =
    "n.nspname NOT IN ('information_schema', 'walferry', 'walferry_fence') AND n.nspname !~ '^pg_'";

fn matches(column: &str, regex: &str) -> String {
    format!("{column}::text OPERATOR(pg_catalog.~) {} COLLATE pg_catalog.\"default\"", quote_literal(regex))
}

fn any(conditions: Vec<String>) -> String {
    format!("({})", conditions.join(" OR "))
}

/// The default `search_path` of this session's role, as schemas that exist; the session's own is pinned.
async fn search_path(session: &Session) -> Result<Vec<String>> {
    let row = session
        .query_one(
            "SELECT coalesce((
                 SELECT pg_catalog.substr(setting, 13)
                 FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS setting
                 WHERE setting LIKE 'search\\_path=%'
                   AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
                   AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))
                 ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1
             ), '\"$user\", public')",
            &[],
        )
        .await?;
    let default: String = row.get(0);
    session.execute("SELECT pg_catalog.set_config('search_path', $1, false)", &[&default]).await?;
    let schemas = session.query_one("SELECT pg_catalog.current_schemas(false)::text[]", &[]).await;
    session.batch_execute("SET search_path = pg_catalog").await?;
    Ok(schemas?.get(0))
}

impl Selection {
    /// Is anything chosen by name? Then a dump leaves out what belongs to no table, extensions for example.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.schemas.is_empty() || !self.tables.is_empty()
    }

    /// Reads every pattern, so that a malformed one is a usage error before anything is asked.
    pub fn check(&self) -> Result<()> {
        for text in self.schemas.iter().chain(&self.exclude_schemas) {
            Pattern::schema(text)?;
        }
        for text in self.tables.iter().chain(&self.exclude_tables) {
            Pattern::table(text)?;
        }
        Ok(())
    }

    /// The source's schemas that the run is about: of those chosen and not excluded by name, where tables are not chosen; else all.
    pub async fn chosen_schemas(&self, session: &Session) -> Result<Vec<String>> {
        let mut conditions = vec![USER_SCHEMA.to_owned()];
        conditions.extend(self.schema_conditions()?);
        let sql = format!(
            "SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE {}",
            conditions.join(" AND ")
        );
        Ok(session.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Sequences that belong to tables which are excluded by name: of the same name on the target, they are somebody else's. Of identity
    /// columns alone, if so `identity_alone`.
    pub async fn sequences_left_out(
        &self,
        session: &Session,
        identity_alone: bool,
    ) -> Result<HashSet<QualifiedName>> {
        if self.exclude_tables.is_empty() {
            return Ok(HashSet::new());
        }
        let chosen = self.condition(session).await?;
        let kinds = if identity_alone { "'i'" } else { "'a', 'i'" };
        let sql = format!(
            "SELECT sn.nspname::text, s.relname::text
             FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
             JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
             JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ({kinds}) AND NOT ({chosen})"
        );
        let rows = session.query(&sql, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1)))
            .collect())
    }

    /// Conditions over `n.nspname`. As in pg_dump, --table makes --schema and --exclude-schema void.
    fn schema_conditions(&self) -> Result<Vec<String>> {
        let schemas = |patterns: &[String]| -> Result<Vec<String>> {
            patterns.iter().map(|text| Ok(matches("n.nspname", &Pattern::schema(text)?))).collect()
        };
        let mut conditions = Vec::new();
        if self.tables.is_empty() && !self.schemas.is_empty() {
            conditions.push(any(schemas(&self.schemas)?));
        }
        if self.tables.is_empty() && !self.exclude_schemas.is_empty() {
            conditions.push(format!("NOT {}", any(schemas(&self.exclude_schemas)?)));
        }
        Ok(conditions)
    }

    /// A condition over `n.nspname` and `c.relname` (aliases of pg_namespace and pg_class); a partition of a table chosen by name is
    /// chosen too: over `c.oid`.
    pub async fn condition(&self, session: &Session) -> Result<String> {
        let mut conditions = vec![USER_SCHEMA.to_owned()];
        let unqualified = self.tables.iter().chain(&self.exclude_tables);
        let mut path = None;
        for text in unqualified {
            if Pattern::table(text)?.schema.is_none() && path.is_none() {
                path = Some(search_path(session).await?);
            }
        }
        let path = path.unwrap_or_default();
        conditions.extend(self.schema_conditions()?);
        if !self.tables.is_empty() {
            let chosen = any(tables(&self.tables, &path)?);
            conditions.push(format!(
                "({chosen} OR c.relispartition AND c.oid IN (
                     WITH RECURSIVE chosen AS (
                         SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                         WHERE c.relkind = 'p' AND {chosen}
                       UNION
                         SELECT i.inhrelid FROM chosen JOIN pg_catalog.pg_inherits i ON i.inhparent = chosen.oid
                     ) SELECT oid FROM chosen))"
            ));
        }
        if !self.exclude_tables.is_empty() {
            conditions.push(format!("NOT {}", any(tables(&self.exclude_tables, &path)?)));
        }
        Ok(conditions.join(" AND "))
    }
}

fn tables(patterns: &[String], path: &[String]) -> Result<Vec<String>> {
    patterns
        .iter()
        .map(|text| {
            let pattern = Pattern::table(text)?;
            let name = matches("c.relname", &pattern.name);
            Ok(match pattern.schema {
                Some(schema) => format!("({} AND {name})", matches("n.nspname", &schema)),
                None => format!("({} AND {name})", visible(path)),
            })
        })
        .collect()
}

/// `n` is the first schema of the path that has a relation of this name.
fn visible(path: &[String]) -> String {
    if path.is_empty() {
        return "false".to_owned();
    }
    let schemas: Vec<String> = path.iter().map(|schema| quote_literal(schema)).collect();
    format!(
        "n.nspname = (SELECT p.s FROM pg_catalog.unnest(ARRAY[{}]::name[]) WITH ORDINALITY AS p(s, o)
                      JOIN pg_catalog.pg_namespace pn ON pn.nspname = p.s
                      JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.oid AND pc.relname = c.relname ORDER BY p.o LIMIT 1)",
        schemas.join(", ")
    )
}
