//! Restores what has to be there before the rows, inside the caller's transaction: all of it or nothing.

use std::collections::HashSet;

use pg::{Error, QualifiedName, Result, quote_ident};
use tokio_postgres::{GenericClient, Transaction};

use super::explain::explain;
use super::lex::statements;
use super::sections::Entry;
use super::statement::{Statement, read};
use super::{batch, rewrite};

/// A column that the source has GENERATED ALWAYS AS IDENTITY.
pub type AlwaysColumn = (QualifiedName, String);

/// pg_dump's own header, for one transaction: names are qualified in what follows, bodies of functions are checked later.
pub(super) const HEADER: &str = "SET LOCAL search_path = ''; SET LOCAL check_function_bodies = false; \
     SET LOCAL xmloption = content; SET LOCAL default_tablespace = ''; SET LOCAL default_table_access_method = heap; \
     SET LOCAL client_min_messages = warning;";

/// Runs the entries in order. Schemas and extensions that the target has already are left as they are; schemas that are needed and made
/// by no entry (a dump of single tables doesn't make them) are made, `schemas` too. Returns the identity columns that have to be made
/// GENERATED ALWAYS again in the end.
///
/// # Errors
/// Names the object, says what the server said, and what to do. The transaction is of no use any more.
pub async fn restore(
    tx: &Transaction<'_>,
    entries: &[Entry],
    schemas: &[String],
) -> Result<Vec<AlwaysColumn>> {
    let present = Present::look(tx).await?;
    let Prepared { missing, steps, always } = prepare(entries, schemas, &present);
    for schema in missing {
        let made = tx.batch_execute(&format!("CREATE SCHEMA {}", quote_ident(&schema))).await;
        made.map_err(|error| explain(error.into(), "SCHEMA", "", &schema))?;
    }
    tx.batch_execute(HEADER).await?;
    let mut plain: Vec<String> = Vec::new();
    let mut of: Vec<&Entry> = Vec::new();
    for step in steps {
        if !step.optional {
            plain.push(step.script);
            of.push(step.entry);
            continue;
        }
        run(tx, &mut plain, &mut of).await?;
        let attempt = format!("SAVEPOINT optional; {}RELEASE optional", step.script);
        if let Err(error) = tx.batch_execute(&attempt).await.map_err(Error::from) {
            if !error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) {
                return Err(named(error, step.entry));
            }
            tx.batch_execute("ROLLBACK TO optional; RELEASE optional").await?;
            tracing::warn!("{} of the source is left out: {error}", step.entry.name);
        }
    }
    run(tx, &mut plain, &mut of).await?;
    tx.batch_execute("SET LOCAL search_path = pg_catalog").await?;
    Ok(always)
}

/// The tables that the entries make, partitions included, foreign tables not.
#[must_use]
pub fn created_tables(entries: &[Entry]) -> Vec<QualifiedName> {
    let made = entries.iter().filter(|entry| entry.kind == "TABLE").flat_map(|entry| statements(&entry.sql));
    made.filter_map(|sql| match read(sql) {
        Statement::CreateTable { name } => Some(name),
        _ => None,
    })
    .collect()
}

async fn run(tx: &Transaction<'_>, scripts: &mut Vec<String>, of: &mut Vec<&Entry>) -> Result<()> {
    let result = batch::run(tx, scripts).await;
    let result = result.map_err(|(at, error)| match of.get(at) {
        Some(entry) => named(error, entry),
        None => error,
    });
    scripts.clear();
    of.clear();
    result
}

fn named(error: Error, entry: &Entry) -> Error {
    explain(error, &entry.kind, &entry.schema, &entry.name)
}

/// What the target has before the restore.
struct Present {
    schemas: HashSet<String>,
    extensions: HashSet<String>,
    version: i32,
}

impl Present {
    async fn look(client: &impl GenericClient) -> Result<Present> {
        let names = |sql: &'static str| async move {
            let rows = client.query(sql, &[]).await?;
            Ok::<HashSet<String>, Error>(rows.iter().map(|row| row.get(0)).collect())
        };
        let version = "SELECT pg_catalog.current_setting('server_version_num')::int4";
        Ok(Present {
            schemas: names("SELECT nspname::text FROM pg_catalog.pg_namespace").await?,
            extensions: names("SELECT extname::text FROM pg_catalog.pg_extension").await?,
            version: client.query_one(version, &[]).await?.get(0),
        })
    }
}

struct Prepared<'a> {
    /// Schemas that no entry makes.
    missing: Vec<String>,
    steps: Vec<RestoreStep<'a>>,
    always: Vec<AlwaysColumn>,
}

struct RestoreStep<'a> {
    entry: &'a Entry,
    script: String,
    /// Says something about an object that was there before and may be somebody else's: goes if the right to it is missing.
    optional: bool,
}

fn prepare<'a>(entries: &'a [Entry], schemas: &[String], present: &Present) -> Prepared<'a> {
    let mut made: HashSet<String> = HashSet::new();
    let mut wanted: Vec<String> = schemas.to_vec();
    let mut steps = Vec::new();
    let mut always = Vec::new();
    for entry in entries {
        if !entry.schema.is_empty() {
            wanted.push(entry.schema.clone());
        }
        let mut script = entry.storage.clone();
        let mut optional = false;
        let mut skip = false;
        let mut creates = false;
        for sql in statements(&entry.sql) {
            let mut rewritten = None;
            match read(sql) {
                Statement::CreateSchema { name } => {
                    skip = present.schemas.contains(&name);
                    creates = true;
                    made.insert(name);
                }
                Statement::CreateExtension { name, schema } => {
                    skip = present.extensions.contains(&name);
                    wanted.extend(schema.filter(|_| !skip));
                }
                Statement::AddIdentityAlways { table, column, always: at } => {
                    rewritten = Some(rewrite::by_default(sql, at));
                    always.push((table, column));
                }
                Statement::CreateTable { name } if present.version < 180_000 => {
                    rewritten = rewrite::not_null_before_18(sql, &name);
                }
                Statement::CreateRange if present.version < 140_000 => {
                    rewritten = rewrite::range_before_14(sql);
                }
                Statement::Comment { what } => optional = what == "EXTENSION" || what == "SCHEMA",
                Statement::Privileges { on_schema: true } => optional = true,
                _ => {}
            }
            script.push_str(rewritten.as_deref().unwrap_or(sql));
            script.push_str(";\n");
        }
        if !entry.storage.is_empty() {
            script.push_str(
                "SET LOCAL default_tablespace = ''; SET LOCAL default_table_access_method = heap;\n",
            );
        }
        // The owner of a schema that initdb makes, `public`.
        optional |= entry.kind == "SCHEMA" && !creates;
        if !skip {
            steps.push(RestoreStep { entry, script, optional });
        }
    }
    // In headers newlines are blanks.
    let plain = |name: &String| name.replace(['\n', '\r'], " ");
    let there: HashSet<String> = present.schemas.iter().chain(&made).map(plain).collect();
    wanted.sort();
    wanted.dedup();
    wanted.retain(|schema| !there.contains(&plain(schema)));
    Prepared { missing: wanted, steps, always }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, schema: &str, sql: &str) -> Entry {
        Entry {
            kind: kind.into(),
            schema: schema.into(),
            name: "n".into(),
            sql: sql.into(),
            storage: String::new(),
        }
    }

    #[test]
    fn what_is_there_is_left_alone_and_what_is_missing_is_made() {
        let present = Present {
            schemas: ["public".to_owned()].into(),
            extensions: ["hstore".to_owned()].into(),
            version: 150_000,
        };
        let entries = [
            entry("SCHEMA", "", "CREATE SCHEMA public;\n"),
            entry("SCHEMA", "", "CREATE SCHEMA \"a\nb\";\n"),
            entry("EXTENSION", "", "CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA ext;\n"),
            entry("EXTENSION", "", "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA other;\n"),
            entry("COMMENT", "", "COMMENT ON EXTENSION citext IS 'x';\n"),
            entry("SCHEMA", "", "ALTER SCHEMA public OWNER TO o;\n"),
            entry(
                "TABLE",
                "a b",
                "CREATE TABLE \"a\nb\".t (\n    NOT NULL id\n)\nINHERITS (x.p);\nALTER TABLE x OWNER TO o;\n",
            ),
            entry(
                "SEQUENCE",
                "s",
                "ALTER TABLE s.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START WITH 1);\n",
            ),
        ];
        let prepared = prepare(&entries, &[], &present);
        let scripts: Vec<&str> = prepared.steps.iter().map(|step| step.script.as_str()).collect();
        assert_eq!(
            scripts,
            [
                "CREATE SCHEMA \"a\nb\";\n",
                "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA other;\n",
                "COMMENT ON EXTENSION citext IS 'x';\n",
                "ALTER SCHEMA public OWNER TO o;\n",
                "CREATE TABLE \"a\nb\".t ()\nINHERITS (x.p);\nALTER TABLE ONLY \"a\nb\".\"t\" ALTER COLUMN \"id\" SET NOT NULL;\n\
                 ALTER TABLE x OWNER TO o;\n",
                "ALTER TABLE s.t ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START WITH 1);\n",
            ]
        );
        assert_eq!(prepared.missing, ["other", "s"]);
        assert!(prepared.steps[2].optional && prepared.steps[3].optional && !prepared.steps[4].optional);
        assert_eq!(prepared.always, [(QualifiedName::new("s", "t"), "id".to_owned())]);
        assert_eq!(created_tables(&entries), [QualifiedName::new("a\nb", "t")]);
    }
}
