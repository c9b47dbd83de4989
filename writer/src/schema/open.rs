//! Keeping ordinary writers off the target until it is opened, and opening it.
//!
//! Statement triggers that don't fire for `session_replication_role = replica`: apply passes, everybody else is refused with 25006. Where
//! the run may not become replica, its sessions set `walferry.apply` to the run's name and the triggers spare them.
//!
//! All triggers of a run call one function. Opening replaces its body by nothing: one row of a catalog, at once for all tables, and no
//! lock on any of them, so neither a reader nor autovacuum can hold it up. The triggers that then do nothing are dropped afterwards.

use pg::{Error, QualifiedName, Result, quote_ident, quote_literal};
use tokio_postgres::{Client, GenericClient};

/// Names are cut at 63 bytes; two runs whose names begin alike keep apart.
fn name_for(prefix: &str, run: &str) -> String {
    let name = format!("{prefix}{run}");
    if name.len() <= 63 {
        return name;
    }
    // FNV-1a: the same in every version of walferry.
    let hash = run.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut end = 63 - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} {hash:016x}", &name[..end])
}

fn function_name(run: &str) -> String {
    name_for("protect ", run)
}

fn trigger_name(run: &str) -> String {
    name_for("walferry_protect_", run)
}

fn function(run: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION walferry.{}() RETURNS trigger LANGUAGE plpgsql AS {}",
        quote_ident(&function_name(run)),
        quote_literal(body)
    )
}

fn refusing(run: &str) -> String {
    let body = format!(
        "BEGIN IF pg_catalog.current_setting('walferry.apply', true) IS DISTINCT FROM {run} THEN \
         RAISE EXCEPTION USING ERRCODE = '25006', \
         MESSAGE = pg_catalog.format('table %I.%I is being filled by walferry', TG_TABLE_SCHEMA, TG_TABLE_NAME), \
         HINT = {hint}; END IF; RETURN NULL; END",
        run = quote_literal(run),
        hint =
            quote_literal(&format!("write to the source until the cutover: walferry cutover --name {run}"))
    );
    function(run, &body)
}

/// Protects the tables, their partitions, inheritance children and the parents of all these; can be run again, for more tables.
pub async fn protect(client: &impl GenericClient, run: &str, tables: &[QualifiedName]) -> Result<()> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let trigger = trigger_name(run);
    // A statement trigger fires for the table that the statement names, neither for its parents nor for its children.
    let rows = client
        .query(
            "WITH RECURSIVE given AS (
                 SELECT c.oid FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
                 JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
             ), above AS (
                 SELECT oid FROM given
               UNION
                 SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid
             ), below AS (
                 SELECT oid FROM given
               UNION
                 SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid
             ), tree AS (SELECT oid FROM above UNION SELECT oid FROM below)
             SELECT n.nspname::text, c.relname::text FROM tree JOIN pg_catalog.pg_class c USING (oid)
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p')
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = $3)
             ORDER BY 1, 2",
            &[&schemas, &names, &trigger],
        )
        .await?;
    let mut sql = format!("{};\n", refusing(run));
    for row in &rows {
        let table = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        sql += &format!(
            "CREATE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION walferry.{}();\n",
            quote_ident(&trigger),
            quote_ident(&function_name(run))
        );
    }
    client.batch_execute(&sql).await.map_err(|error| {
        Error::from(error).context("the target's tables can't be protected against other writers")
    })?;
    Ok(())
}

/// Lets everybody write, from the commit of this on. Waits for nobody.
pub async fn open(client: &Client, run: &str) -> Result<()> {
    let there = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = 'walferry' AND p.proname = $1)",
            &[&function_name(run)],
        )
        .await?;
    if there.get(0) {
        client.batch_execute(&function(run, "BEGIN RETURN NULL; END")).await?;
    }
    Ok(())
}

/// Drops the triggers, each where nobody is in the way for a moment, and then their function; true when nothing is left. Readers are held
/// up for no longer than that moment.
pub async fn drop_protection(client: &Client, run: &str) -> Result<bool> {
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE t.tgname = $1 ORDER BY 1, 2",
            &[&trigger_name(run)],
        )
        .await?;
    let mut left = false;
    for row in &rows {
        let table = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        left |= !dropped(
            client,
            &format!("DROP TRIGGER IF EXISTS {} ON {table}", quote_ident(&trigger_name(run))),
        )
        .await?;
    }
    Ok(!left
        && dropped(
            client,
            &format!("DROP FUNCTION IF EXISTS walferry.{}()", quote_ident(&function_name(run))),
        )
        .await?)
}

/// False when somebody was in the way.
async fn dropped(client: &Client, command: &str) -> Result<bool> {
    let script = format!("BEGIN; SET LOCAL lock_timeout = '200ms'; {command}; COMMIT");
    let Err(error) = client.batch_execute(&script).await.map_err(Error::from) else { return Ok(true) };
    if client.is_closed() {
        return Err(error);
    }
    client.batch_execute("ROLLBACK").await?;
    // Somebody holds a lock, has dropped the table meanwhile, or forbids it by an event trigger: what stays does nothing.
    tracing::debug!("{command}: {error}");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_apart() {
        assert_eq!(trigger_name("walferry"), "walferry_protect_walferry");
        let long = "é".repeat(31);
        let (a, b) = (trigger_name(&format!("{long}a")), trigger_name(&format!("{long}b")));
        assert!(a.len() <= 63 && b.len() <= 63 && a != b, "{a} {b}");
    }
}
