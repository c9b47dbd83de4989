//! The publication: made for the outbox tables alone, or somebody else's that has them.

use pg::{Error, Result, Session, quote_ident};
use reader::catalog::PublicationState;

use super::connect::connect;
use super::plan::{self, Plan, Table};
use super::{Context, record};
use crate::config::Settings;

/// Makes the run's own publication, or adds tables to it; looks whether the tables' inserts are published.
///
/// # Errors
/// A publication of the run's name that is not the outbox's; tables that are not published.
pub async fn ensure(context: &Context, session: &Session, plan: &mut Plan) -> Result<()> {
    if plan.own_publication {
        let name = &plan.publications[0];
        let there = session
            .query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", &[name])
            .await?
            .is_some();
        if !there {
            // The WAL before it holds nothing for this run: a slot that is there was left by another publication.
            if record::slot_exists(session, &context.slot).await? {
                return Err(Error::refuse(
                    "PUBLICATION_MISSING",
                    format!("slot \"{}\" exists, but publication \"{name}\" does not", context.slot),
                )
                .detail("what was committed meanwhile was not published")
                .hint(format!(
                    "name the publication that the slot was used with: --publication; or {}",
                    create(name, &plan.tables, session)
                )));
            }
            make(context, &create(name, &plan.tables, session)).await?;
        } else {
            join(context, session, plan).await?;
        }
    }
    if let [name] = plan.publications.as_slice()
        && !plan.own_publication
        && context.settings.outbox.make_publication
        && !record::slot_exists(session, &context.slot).await?
        && session
            .query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", &[name])
            .await?
            .is_none()
    {
        make(context, &create(name, &plan.tables, session)).await?;
    }
    let state = PublicationState::read(session, &plan.publications).await?;
    published(&plan.tables, &plan.publications, &state)
}

/// Do these publications publish the inserts of all outbox tables?
///
/// # Errors
/// `OUTBOX_NOT_PUBLISHED`: one is missing, or comes under the names of its partitions.
pub fn published(tables: &[Table], publications: &[String], state: &PublicationState) -> Result<()> {
    for table in tables {
        let published = state.table(&table.name).filter(|found| found.actions.insert);
        if published.is_none() {
            let name = publications.first().map(|name| quote_ident(name)).unwrap_or_default();
            let error = Error::refuse(
                "OUTBOX_NOT_PUBLISHED",
                format!(
                    "publication {name} does not publish the inserts of outbox table {} under its name",
                    table.name
                ),
            );
            return Err(if table.partitioned {
                error.hint(format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"))
            } else {
                error.hint(format!("ALTER PUBLICATION {name} ADD TABLE {}", table.name))
            });
        }
    }
    Ok(())
}

/// The command that makes the run's own publication.
pub fn create(name: &str, tables: &[Table], session: &Session) -> String {
    let mut sql = format!("CREATE PUBLICATION {}", quote_ident(name));
    if !tables.is_empty() {
        let names: Vec<String> = tables.iter().map(|table| table.name.to_string()).collect();
        sql += &format!(" FOR TABLE {}", names.join(", "));
    }
    // A published table without a replica identity would refuse the application's own updates and deletes.
    let mut publish =
        if tables.iter().all(|table| table.identity) { "insert, update, delete" } else { "insert" }
            .to_owned();
    if session.version().major() >= 11 {
        publish += ", truncate";
    }
    let root = if session.version().major() >= 13 { ", publish_via_partition_root = true" } else { "" };
    sql + &format!(" WITH (publish = '{publish}'{root})")
}

/// A publication of the run's name: is it the outbox's, and has it all tables?
async fn join(context: &Context, session: &Session, plan: &Plan) -> Result<()> {
    let name = &plan.publications[0];
    let state = PublicationState::read(session, &plan.publications).await?;
    let others = others(&plan.tables, &state);
    if !others.is_empty() {
        return Err(Error::refuse(
            "PUBLICATION_IN_USE",
            format!("publication \"{name}\" publishes tables that are no outbox: it is another run's"),
        )
        .detail(pipeline::some_of(&others))
        .hint(
            "give this run a name of its own: --name; to use that publication all the same: --publication",
        ));
    }
    let missing: Vec<String> = plan
        .tables
        .iter()
        .filter(|table| state.table(&table.name).is_none())
        .map(|table| table.name.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    make(context, &format!("ALTER PUBLICATION {} ADD TABLE {}", quote_ident(name), missing.join(", "))).await
}

/// What is published and is no outbox.
fn others(tables: &[Table], state: &PublicationState) -> Vec<String> {
    let others = state.tables.iter().filter(|published| {
        !tables.iter().any(|table| table.name == published.name || published.covers.contains(&table.oid))
    });
    others.map(|published| published.name.to_string()).collect()
}

/// A publication of the run's name, looked at before it is dropped.
pub enum Own {
    Missing,
    /// It publishes the outbox tables that are there, or nothing: as it was made.
    Outbox,
    /// It has more, which is named: somebody else needs it.
    Others(String),
}

/// Is the publication of the run's name what `outbox run` makes?
pub async fn own(settings: &Settings, session: &Session) -> Result<Own> {
    let names = [settings.name().to_owned()];
    let found = session
        .query_opt("SELECT puballtables FROM pg_catalog.pg_publication WHERE pubname = $1", &[&names[0]])
        .await?;
    match found.map(|row| row.get::<_, bool>(0)) {
        None => return Ok(Own::Missing),
        Some(true) => return Ok(Own::Others("all tables".to_owned())),
        Some(false) => {}
    }
    // Tables that don't fit the options any more are told apart by nobody: what is published is then not known to be the outbox's.
    let tables = plan::tables(settings, session, &plan::options(settings)?).await.unwrap_or_default();
    let others = others(&tables, &PublicationState::read(session, &names).await?);
    Ok(if others.is_empty() { Own::Outbox } else { Own::Others(pipeline::some_of(&others)) })
}

async fn make(context: &Context, sql: &str) -> Result<()> {
    let admin = connect(&context.admin, &context.name, "admin").await?;
    admin.batch_execute(sql).await.map_err(|error| {
        Error::from(error).context("could not make the publication").hint(format!(
            "as the owner of the outbox table, with CREATE on the database: {sql}; or give that role: --source-admin"
        ))
    })
}
