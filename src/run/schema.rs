//! Step 3: the schema of the snapshot, restored in one transaction together with the record that it is.

use std::time::Duration;

use pg::{QualifiedName, Result, ServerVersion, Session};
use writer::control::{Mode, Run, RunTable, Step};
use writer::schema::{
    DumpOptions, PgDump, SequenceState, entries, let_admin_in, protect, read_sequences, read_sequences_of,
    store, used_extensions,
};

use super::attach::{self, Snapshot};
use super::context::Context;
use super::owner::Owner;

/// How long pg_dump waits for a table that somebody alters; then it is tried again, and the reason stands in the status.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Dumps and restores pre-data; stores post-data for later. Skipped with `--existing-schema`.
pub async fn restore(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    snapshot: &mut Option<Snapshot>,
) -> Result<()> {
    Run::set_step(owner.session(), &run.name, Step::Schema).await?;
    context.reporter.step(Step::Schema.as_str());
    let tables = RunTable::all(owner.session(), &run.name).await?;
    let names: Vec<QualifiedName> = tables.iter().map(|table| table.name.clone()).collect();
    let protected = context.mode == Mode::Migrate || context.settings.run.protect;
    if context.settings.run.existing_schema {
        if protected {
            protect(&*context.target_admin_session().await?, &run.name, &names).await?;
        }
        return Run::set_step(owner.session(), &run.name, Step::Copy).await;
    }
    attach::ensure(context, owner, run, snapshot).await?;
    let mut admin = context.target_admin_session().await?;
    let version = match &run.source {
        Some(source) => ServerVersion(source.version),
        None => context.source_session().await?.version(),
    };
    let mut dump = PgDump::find(context.settings.schema.pg_dump.as_deref(), version.major())
        .await?
        .named(format!("{} (schema)", run.name))
        .for_target(admin.version().major())
        .lock_wait(LOCK_WAIT);
    let select = &context.settings.select;
    if !(select.schema.is_empty() && select.table.is_empty()) {
        dump = dump.with_extensions(used_extensions(&*context.source_session().await?, &names).await?);
    }
    let options = DumpOptions {
        snapshot: snapshot.as_ref().map(|snapshot| snapshot.id().to_owned()),
        no_owner: context.settings.schema.no_owner,
        no_privileges: context.settings.schema.no_privileges,
        schemas: select.schema.clone(),
        exclude_schemas: select.exclude_schema.clone(),
        tables: select.table.clone(),
        exclude_tables: select.exclude_table.clone(),
    };
    let (pre, post) = dump.sections(&context.source, &options).await?;
    let (pre, post) = (entries(&pre), entries(&post));
    let mut schemas: Vec<String> = names.iter().map(|name| name.schema.clone()).collect();
    schemas.sort();
    schemas.dedup();
    // A whole dump makes its schemas itself, with their owners and comments.
    if select.table.is_empty() {
        schemas.retain(|schema| !pre.iter().any(|entry| entry.kind == "SCHEMA" && entry.name == *schema));
    }
    let_admin_in(owner.session(), context.target_admin.user()).await?;
    let tx = admin.transaction().await?;
    let always = writer::schema::restore(&tx, &pre, &schemas).await?;
    tx.batch_execute(&identities_before(run)).await?;
    // What others publish may be a part of the database; all of its schema is restored.
    let fed = (!run.publication_own).then_some(names.as_slice());
    for left_out in store(&tx, &run.name, &post, &always, fed).await? {
        context.reporter.warning(left_out, None);
    }
    if protected {
        protect(&tx, &run.name, &names).await?;
    }
    tx.execute("UPDATE walferry.runs SET step = 'copy' WHERE name = $1", &[&run.name]).await?;
    fail::fail_point!("schema-restored");
    tx.commit().await?;
    Ok(())
}

/// `--keyless full` has changed the source before it was dumped: the target gets the identities that the source had. What is applied
/// follows the source's.
fn identities_before(run: &Run) -> String {
    let before = run.keyless.as_ref().and_then(|keyless| keyless.as_object());
    let statement = |(table, was): (&String, &serde_json::Value)| {
        let was = if was.as_str() == Some("NOTHING") { "NOTHING" } else { "DEFAULT" };
        format!("ALTER TABLE {table} REPLICA IDENTITY {was};")
    };
    before.into_iter().flatten().map(statement).collect()
}

/// The sequences that come with a run's tables: of a database or of schemas, all that are there but those of tables that are left out; of
/// chosen tables, those they use. Another
/// sequence of the same name on the target is somebody else's.
pub async fn sequences(
    context: &Context,
    source: &Session,
    tables: &[QualifiedName],
    publication_own: bool,
) -> Result<Vec<SequenceState>> {
    let select = &context.settings.select;
    if !publication_own || !select.table.is_empty() {
        return read_sequences_of(source, tables).await;
    }
    let selection = super::selection(&context.settings);
    let mut sequences = read_sequences(source, &selection.chosen_schemas(source).await?).await?;
    // pg_dump takes a serial column's sequence along although its table is excluded, and then it is ours.
    let restored = !context.settings.run.existing_schema;
    let left_out = selection.sequences_left_out(source, restored).await?;
    sequences.retain(|sequence| !left_out.contains(&sequence.name));
    Ok(sequences)
}
