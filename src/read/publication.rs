//! The publication of a feed without a writer: as it is there, or made.

use pg::{Error, Result, Session, quote_ident};
use pipeline::TableSpec;
use reader::catalog::{PublicationState, Selection, Without, is_keyless, plan_own, selected, topmost};

use super::Reading;
use crate::config::{Autocreate, Keyless};
use crate::run::selection;

/// The names to follow; what is missing of them is made, if it may be.
///
/// # Errors
/// No table is chosen; tables without a replica identity: an UPDATE of the application's would fail as soon as they are published.
pub async fn ensure(reading: &Reading, session: &Session) -> Result<Vec<String>> {
    let settings = &reading.settings;
    let [name] = settings.run.publication.as_slice() else {
        if settings.run.publication.is_empty() {
            let chosen = selection(settings);
            return own(reading, session, &reading.name, &chosen, true).await;
        }
        return Ok(settings.run.publication.clone());
    };
    let there = session
        .query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname::text = $1", &[name])
        .await?
        .is_some();
    if there || settings.capture.publication == Autocreate::Disabled {
        lacks(reading, session, name).await?;
        return Ok(vec![name.clone()]);
    }
    match settings.capture.publication {
        Autocreate::AllTables => {
            let all = selected(session, &Selection::default()).await?;
            if all.iter().any(is_keyless) {
                // Which of them have an identity can't be said of all tables.
                return own(reading, session, name, &Selection::default(), false).await;
            }
            create(
                reading,
                session,
                vec![format!("CREATE PUBLICATION {} FOR ALL TABLES", quote_ident(name))],
                std::slice::from_ref(name),
            )
            .await?;
        }
        Autocreate::NoTables => {
            create(
                reading,
                session,
                vec![format!("CREATE PUBLICATION {}", quote_ident(name))],
                std::slice::from_ref(name),
            )
            .await?;
        }
        Autocreate::Filtered | Autocreate::Disabled => {
            return own(reading, session, name, &selection(settings), true).await;
        }
    }
    Ok(vec![name.clone()])
}

/// One of the tables that are chosen, and `<name>_inserts` for those without an identity. `taken`: not those that are filtered out.
async fn own(
    reading: &Reading,
    session: &Session,
    name: &str,
    chosen: &Selection,
    taken: bool,
) -> Result<Vec<String>> {
    let settings = &reading.settings;
    // Under the name that their changes come by.
    let mut tables = if settings.capture.via_partition_root {
        topmost(session, chosen).await?
    } else {
        selected(session, chosen).await?
    };
    tables.retain(|table| !taken || reading.capture.table(&table.name));
    if tables.is_empty() {
        return Err(Error::refuse("NO_TABLES", "the selection matches no table on the source")
            .hint("see --schema and --table, and table.include.list of a connector's file"));
    }
    let inserts = settings.run.keyless == Keyless::Inserts;
    let without = if inserts { Without::Inserts } else { Without::Refuse };
    let plan = plan_own(session, name, &tables, without).await?;
    if !plan.keyless.is_empty() && !inserts {
        return Err(no_identity(&tables));
    }
    let mut statements: Vec<String> = Vec::new();
    if name == reading.name {
        // What an earlier attempt has left.
        statements.extend(
            plan.names.iter().map(|name| format!("DROP PUBLICATION IF EXISTS {}", quote_ident(name))),
        );
    }
    statements.extend(plan.create);
    create(reading, session, statements, &plan.names).await?;
    Ok(plan.names)
}

fn no_identity(tables: &[TableSpec]) -> Error {
    let names: Vec<String> =
        tables.iter().filter(|table| is_keyless(table)).map(|table| table.name.to_string()).collect();
    Error::refuse("NO_IDENTITY", format!("{} table(s) have no replica identity", names.len()))
        .detail(names.join(", "))
        .hint("give each a primary key, or REPLICA IDENTITY FULL, or take inserts alone: --keyless inserts")
}

/// All in one transaction.
async fn create(
    reading: &Reading,
    session: &Session,
    statements: Vec<String>,
    names: &[String],
) -> Result<()> {
    let mut sql = format!("BEGIN; {}", statements.join("; "));
    if reading.settings.capture.via_partition_root {
        for name in names {
            sql +=
                &format!("; ALTER PUBLICATION {} SET (publish_via_partition_root = true)", quote_ident(name));
        }
    }
    session.batch_execute(&format!("{sql}; COMMIT")).await.map_err(|error| {
        Error::from(error).context("could not create the publication").hint(
            "use a role that owns the tables and may create in the database (a superuser for all tables), or name existing ones with \
             --publication",
        )
    })
}

/// Says which of the tables that are asked for by name are not published.
async fn lacks(reading: &Reading, session: &Session, name: &str) -> Result<()> {
    if reading.settings.capture.table_include.is_empty() {
        return Ok(());
    }
    let names = std::slice::from_ref(&reading.settings.run.publication[0]);
    let published = PublicationState::read(session, names).await?;
    let mut wanted = selected(session, &selection(&reading.settings)).await?;
    wanted.retain(|table| table.streamed && reading.capture.table(&table.name));
    wanted.retain(|table| !published.tables.iter().any(|there| there.covers.contains(&table.oid)));
    if wanted.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = wanted.iter().map(|table| table.name.to_string()).collect();
    let missing = missing.join(", ");
    reading.reporter.warning(
        format!("publication {} does not have tables that are to be taken: {missing}", quote_ident(name)),
        Some(format!("ALTER PUBLICATION {} ADD TABLE {missing}", quote_ident(name))),
    );
    Ok(())
}
