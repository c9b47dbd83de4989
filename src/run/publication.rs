//! The publication that a run makes for itself, and tables without a replica identity.

use std::collections::{BTreeMap, HashSet};

use pg::{Error, Result, Session, quote_ident};
use pipeline::TableSpec;
use reader::catalog::{KeylessTable, PublicationState, Selection, Without, plan_own, published, selected};
use reader::waits::tell_blockers;
use tokio::sync::watch;
use writer::control::Run;

use super::attach;
use super::context::Context;
use super::owner::Owner;
use crate::config::{Keyless, Settings};

/// The tables chosen on the command line.
pub fn selection(settings: &Settings) -> Selection {
    Selection {
        schemas: settings.select.schema.clone(),
        exclude_schemas: settings.select.exclude_schema.clone(),
        tables: settings.select.table.clone(),
        exclude_tables: settings.select.exclude_table.clone(),
    }
}

/// The names of the run's publications.
pub fn names(context: &Context) -> Vec<String> {
    if context.settings.run.publication.is_empty() {
        vec![context.name.clone()]
    } else {
        context.settings.run.publication.clone()
    }
}

fn inserts_name(context: &Context) -> String {
    format!("{}_inserts", context.name)
}

/// What the run is to feed, as the source has it now.
pub struct Published {
    pub state: PublicationState,
    pub tables: Vec<TableSpec>,
}

/// Looks at the publications; with the run's own one, also at the tables that are copied once and not streamed.
pub async fn look(context: &Context, source: &Session, names: &[String], own: bool) -> Result<Published> {
    let state = PublicationState::read(source, names).await?;
    let mut tables = published(source, &state.tables).await?;
    if own {
        let selected = selected(source, &selection(&context.settings)).await?;
        let chosen: HashSet<u32> = selected.iter().map(|table| table.oid).collect();
        // A root that is published stands for partitions outside of the selection too.
        tables.retain(|table| chosen.contains(&table.oid));
        tables.extend(selected.into_iter().filter(|table| !table.streamed));
    }
    Ok(Published { state, tables })
}

/// Makes the run's own publications (dropping what an earlier attempt of this run has left), and sets identities where told to.
pub async fn make(context: &Context, owner: &Owner) -> Result<Vec<String>> {
    let admin = context.source_admin_session().await?;
    let tables = selected(&admin, &selection(&context.settings)).await?;
    if tables.is_empty() {
        return Err(Error::refuse("NO_TABLES", "the selection matches no table on the source")
            .hint("see --schema and --table; walferry check lists what is found"));
    }
    let without = match context.settings.run.keyless {
        Keyless::Refuse => Without::Refuse,
        Keyless::Full => Without::Full,
        Keyless::Inserts => Without::Inserts,
    };
    let plan = plan_own(&admin, &context.name, &tables, without).await?;
    if !plan.keyless.is_empty() {
        match without {
            Without::Refuse => return Err(refused(&plan.keyless)),
            Without::Full => set_full(context, owner, &admin, &plan.keyless).await?,
            Without::Inserts => {}
        }
    }
    let mut sql = String::from("BEGIN;");
    for name in [context.name.clone(), inserts_name(context)] {
        sql += &format!("DROP PUBLICATION IF EXISTS {};", quote_ident(&name));
    }
    sql += &format!("{}; COMMIT", plan.create.join("; "));
    let (tell, blockers) = watch::channel(Vec::new());
    let application_name = format!("{} (control)", context.name);
    let making = async {
        tokio::select! {
            biased;
            made = admin.batch_execute(&sql) => made,
            never = tell_blockers(&context.source_admin, &application_name, admin.backend_pid(), &tell) => match never {},
        }
    };
    attach::shown(context, owner, blockers, attach::PUBLICATION_WAITS, making).await.map_err(|error| {
        Error::from(error)
            .context("could not create the publication")
            .hint("use a role that owns the tables and may create in the database: --source-admin")
    })?;
    Ok(plan.names)
}

fn refused(tables: &[KeylessTable]) -> Error {
    let names: Vec<String> = tables.iter().map(|table| table.name.to_string()).collect();
    Error::refuse("NO_IDENTITY", format!("{} table(s) have no replica identity", tables.len()))
        .detail(names.join(", "))
        .hint(format!(
            "give each a primary key, or ALTER TABLE {} REPLICA IDENTITY FULL, or let walferry do it: --keyless full; or take \
             inserts alone: --keyless inserts",
            names.first().map_or("", String::as_str)
        ))
}

/// Sets REPLICA IDENTITY FULL; what it was is on the record first, so that `clean` sets it back. An earlier attempt's record stays.
async fn set_full(context: &Context, owner: &Owner, admin: &Session, tables: &[KeylessTable]) -> Result<()> {
    let run = Run::read(owner.session(), &context.name).await?;
    let mut before: BTreeMap<String, String> = run
        .and_then(|run| run.keyless)
        .and_then(|earlier| serde_json::from_value(earlier).ok())
        .unwrap_or_default();
    for table in tables {
        before.entry(table.name.to_string()).or_insert_with(|| table.identity_before().to_owned());
    }
    Run::set_keyless(owner.session(), &context.name, &serde_json::json!(before)).await?;
    for table in tables {
        admin.batch_execute(&table.set_full()).await?;
    }
    Ok(())
}
