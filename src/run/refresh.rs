//! A look at the publications: at every start, and when `walferry refresh` asks for one.
//!
//! Tables that joined are copied and changed from their own copied-at LSN on. A table leaves in WAL order: what was committed before the
//! look is still applied.

use std::collections::HashMap;

use pg::{Error, Lsn, QualifiedName, Result, Session};
use pipeline::TableSpec;
use reader::catalog::{DIGEST, PublicationState};
use serde_json::json;
use writer::control::{Request, RequestKind, RequestState, Run, RunTable, TableState};

use super::context::Context;
use super::owner::Owner;
use super::publication;

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    /// The publications to stream.
    pub names: Vec<String>,
    /// Tables were recorded anew.
    pub recorded: bool,
    joined: Vec<QualifiedName>,
    left: Vec<QualifiedName>,
    altered: Vec<QualifiedName>,
    /// Requests that wait for this look.
    requests: Vec<i64>,
}

impl Look {
    /// Tells those who asked.
    pub async fn tell(&self, owner: &Owner, run: &Run) -> Result<()> {
        let list = |names: &[QualifiedName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let result = json!({
            "ok": true, "joined": list(&self.joined), "left": list(&self.left), "altered": list(&self.altered),
        });
        for id in &self.requests {
            Request::advance(owner.session(), &run.name, *id, RequestState::Done, None, Some(&result))
                .await?;
        }
        Ok(())
    }
}

/// Requests that the process of before has left behind: a refresh is carried out by this look; of anything else nothing is left, and the
/// asker is told so.
pub async fn left_behind(owner: &Owner, run: &Run) -> Result<Vec<Request>> {
    let mut refreshes = Vec::new();
    for request in Request::open(owner.session(), &run.name).await? {
        if request.kind == RequestKind::Refresh {
            refreshes.push(request);
        } else if request.state != RequestState::Requested {
            let result = json!({"ok": false, "code": "INTERRUPTED",
                "message": "the stream was interrupted meanwhile; nothing of it is left, try again"});
            Request::advance(
                owner.session(),
                &run.name,
                request.id,
                RequestState::Failed,
                None,
                Some(&result),
            )
            .await?;
        }
    }
    Ok(refreshes)
}

/// A look at what is published, nothing recorded yet.
pub struct Seen {
    names: Vec<String>,
    requests: Vec<Request>,
    /// What was published at the look before; None: the same as now.
    before: Option<PublicationState>,
}

impl Seen {
    /// Something is published otherwise than it was.
    pub fn differs(&self) -> bool {
        self.before.is_some()
    }
}

/// Looks at the publications; `requests`: [`left_behind`]. Most looks end here: what is published is cheap to see, what its tables are like
/// is not where there are thousands.
pub async fn look(
    context: &Context,
    owner: &Owner,
    run: &Run,
    source: &Session,
    requests: Vec<Request>,
) -> Result<Seen> {
    let asked: Vec<String> = requests
        .iter()
        .rev()
        .find_map(|request| serde_json::from_value(request.args["publications"].clone()).ok())
        .filter(|names: &Vec<String>| !names.is_empty())
        .unwrap_or_default();
    let given = if asked.is_empty() { &context.settings.run.publication } else { &asked };
    let names =
        if given.is_empty() || run.publication_own { run.publications.clone() } else { given.clone() };
    let state = PublicationState::read(source, &names).await?;
    let mut seen = Seen { names, requests, before: None };
    let same_names = seen.names == run.publications;
    let digest = Run::publication_text(owner.session(), &run.name, DIGEST).await?;
    if same_names && digest == Some(state.digest()) {
        return Ok(seen);
    }
    let before: PublicationState = Run::publication_state(owner.session(), &run.name)
        .await?
        .and_then(|state| serde_json::from_value(state).ok())
        .unwrap_or_default();
    if same_names && state.changes_since(&before).is_empty() {
        Run::set_publications(owner.session(), &run.name, &seen.names, &state.record()?).await?;
    } else {
        seen.before = Some(before);
    }
    Ok(seen)
}

/// Records what is different, and says what to stream.
pub async fn record(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    source: &Session,
    seen: Seen,
) -> Result<Look> {
    let Seen { names, requests, before } = seen;
    let mut found = Look {
        names: names.clone(),
        requests: requests.iter().map(|request| request.id).collect(),
        ..Look::default()
    };
    let Some(before) = before else { return Ok(found) };
    let published = publication::look(context, source, &names, run.publication_own).await?;
    let changes = published.state.changes_since(&before);
    found.recorded = true;
    let position: String =
        source.query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let position: Lsn = position.parse().map_err(|error| Error::failed("PROTOCOL", format!("{error}")))?;
    let known = RunTable::all(owner.session(), &run.name).await?;
    let state = published.state.record()?;
    let no_copy =
        context.settings.run.no_copy || requests.iter().any(|request| request.args["no_copy"] == true);
    let tx = owner.client().transaction().await?;
    let specs: HashMap<&QualifiedName, &TableSpec> =
        published.tables.iter().map(|table| (&table.name, table)).collect();
    let known_of: HashMap<&QualifiedName, &RunTable> =
        known.iter().map(|table| (&table.name, table)).collect();
    for joined in &changes.joined {
        let name = &joined.name;
        let Some(spec) = specs.get(name) else { continue };
        // Rows that came under other names before (a root's leaves, or the other way round) are there already.
        let as_of = known
            .iter()
            .filter(|t| {
                joined.before.contains(&t.name)
                    || t.left_at.is_none() && t.spec.as_ref().is_some_and(|before| before.oid == spec.oid)
            })
            .filter_map(|t| t.copied_at)
            .max();
        let copied_at = as_of.or_else(|| no_copy.then_some(position));
        let table = RunTable {
            name: name.clone(),
            state: if copied_at.is_some() { TableState::Ready } else { TableState::Pending },
            copied_at,
            left_at: None,
            rows: 0,
            bytes: i64::try_from(spec.bytes).unwrap_or(i64::MAX),
            // Only tables that walferry made may be emptied; one that joins is the target's own.
            created: false,
            spec: Some(TableSpec::clone(spec)),
        };
        table.store(&tx, &run.name).await?;
        found.joined.push(name.clone());
        context.reporter.note(format!("table {name} joins"));
        if as_of.is_some() && !joined.uncovered.is_empty() {
            context.reporter.warning(
                format!(
                    "{} partition(s) of table {name} were not published before: rows that they held until now are not copied",
                    joined.uncovered.len()
                ),
                Some("walferry verify names the rows that are missing".to_owned()),
            );
        }
    }
    for name in &changes.left {
        // It may have come back as another table of the same name.
        if changes.joined.iter().any(|joined| joined.name == *name) {
            continue;
        }
        let Some(table) = known_of.get(name) else { continue };
        let left = RunTable { state: TableState::Left, left_at: Some(position), ..RunTable::clone(table) };
        left.store(&tx, &run.name).await?;
        found.left.push(name.clone());
        context
            .reporter
            .note(format!("table {name} leaves: changes committed before {position} are still applied"));
    }
    for name in changes.columns.iter().chain(&changes.filters) {
        if let (Some(table), Some(spec)) = (known_of.get(name), specs.get(name)) {
            let altered = RunTable { spec: Some(TableSpec::clone(spec)), ..RunTable::clone(table) };
            altered.store(&tx, &run.name).await?;
            found.altered.push(name.clone());
        }
    }
    let uncertain = changes.uncertain(&published.state);
    if !uncertain.is_empty() {
        let from = run.live.source_lsn.clone().unwrap_or_default();
        context.reporter.warning(
            format!(
                "what is published has changed (columns, row filter, publish, or a publication made anew): WAL between {from} and \
                 {position} may not have been published in full for {}",
                pipeline::some_of(&uncertain)
            ),
            Some("rows that are there stay as they are; walferry verify finds what is missing".to_owned()),
        );
        let names: Vec<String> = uncertain.iter().map(ToString::to_string).collect();
        let gap = json!([{"tables": names, "from": from, "to": position.to_string()}]);
        Run::add_gap(&tx, &run.name, &gap).await?;
    }
    Run::set_publications(&tx, &run.name, &names, &state).await?;
    tx.commit().await?;
    Ok(found)
}
