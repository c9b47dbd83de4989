//! Comparisons of a run's two sides: beside the stream, of a stopped run, and under the fence of a cutover.

use std::collections::{HashMap, HashSet};

use pg::{Class, Error, Purpose, QualifiedName, Result, Session};
use pipeline::TableSpec;
use reader::catalog::{Selection, selected, topmost};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use writer::apply::{Touched, TouchedKeys};
use writer::control::{Run, RunTable, TableState, holder};
use writer::verify::{Mode, Options, Outcome, Report, Side, TableReport, VerifyTable, compare};

use crate::run::hold::{self, Sides};
use crate::run::{Context, forward, publication, selection};

/// A full comparison at one point of the stream, which goes on meanwhile. A difference is an error.
pub async fn beside_the_stream(context: &Context, client: &Client) -> Result<()> {
    let sides = hold::sides(context, client).await?;
    let tables = tables(client, &context.name).await?;
    let (report, _) = at_one_point(context, client, &sides, tables, &options(context)).await?;
    equal(&report)
}

/// What `walferry verify` compares of a run: the running process holds for a moment, or, when the run is stopped, this process brings it
/// forward to one point.
pub async fn of_a_run(context: &Context, run: &Run, options: &Options) -> Result<Report> {
    let asker =
        Session::connect(&context.target, Purpose::TargetControl, &format!("{} (verify)", run.name)).await?;
    let sides = if holder(&asker, &run.name).await?.is_some() {
        hold::sides(context, &asker).await?
    } else {
        forward::sides_of_stopped(context).await?
    };
    let mut tables = tables(&asker, &run.name).await?;
    chosen(context, &mut tables).await?;
    let (mut report, strangers) = at_one_point(context, &asker, &sides, tables, options).await?;
    if selection(&context.settings) == Selection::default() {
        report.tables.extend(strangers.into_iter().map(|table| stranger(table, &run.name)));
    }
    Ok(report)
}

/// Nothing of the table is on the target, as far as the run goes.
fn stranger(table: QualifiedName, run: &str) -> TableReport {
    let error = Error::new(
        Class::Unverifiable,
        "NOT_IN_RUN",
        format!("table {table} is published and not in the run"),
    )
    .hint(format!("create it on the target, then: walferry refresh --name {run}"));
    TableReport::new(table.clone(), table, Mode::Content).unverified(&error)
}

/// Leaves the tables that the command line asks for.
async fn chosen(context: &Context, tables: &mut Vec<VerifyTable>) -> Result<()> {
    let selection = selection(&context.settings);
    if selection == Selection::default() {
        return Ok(());
    }
    let source = context.source_session().await?;
    let mut names: HashSet<QualifiedName> = HashSet::new();
    names.extend(selected(&source, &selection).await?.into_iter().map(|table| table.name));
    names.extend(topmost(&source, &selection).await?.into_iter().map(|table| table.name));
    tables.retain(|table| names.contains(&table.spec.name));
    Ok(())
}

/// What was touched since, or everything, while nobody writes on either side: two snapshots that need no slot.
pub async fn at_rest(context: &Context, touched: Option<Touched>) -> Result<Value> {
    let name = format!("{} (verify)", context.name);
    let control = Session::connect(&context.target, Purpose::TargetControl, &name).await?;
    let mut tables = tables(&control, &context.name).await?;
    if let Some(touched) = &touched {
        tables.retain(|table| touched.0.contains_key(&table.spec.name));
    }
    if tables.is_empty() {
        return Ok(json!({"tables": 0}));
    }
    let source = Side::plain(context.source.clone(), &name).await?;
    let target = Side::plain(context.target.clone(), &name).await?;
    as_they_are_now(context, &control, &source, &mut tables).await?;
    if let Some(mut touched) = touched {
        for table in &mut tables {
            table.keys = touched.0.remove(&table.spec.name).and_then(|keys| in_key_order(table, keys));
        }
    }
    let options = Options { one_instant: true, ..options(context) };
    let report = compare(source, target, &tables, &options, &context.reporter).await?;
    equal(&report)?;
    let keys: usize = tables.iter().filter_map(|table| table.keys.as_ref().map(Vec::len)).sum();
    let whole = tables.iter().filter(|table| table.keys.is_none()).count();
    Ok(json!({"tables": tables.len(), "whole_tables": whole, "keys": keys}))
}

/// Touched keys in the order of the table's key; none, for the whole table, where they don't fit it.
fn in_key_order(table: &VerifyTable, touched: TouchedKeys) -> Option<Vec<Vec<Option<String>>>> {
    let TouchedKeys::Keys { columns, keys } = touched else { return None };
    let order: Vec<usize> = table
        .spec
        .key
        .iter()
        .map(|name| columns.iter().position(|column| column == name))
        .collect::<Option<_>>()?;
    if order.is_empty() || order.len() != columns.len() {
        return None;
    }
    Some(keys.into_iter().map(|key| order.iter().map(|&at| key.get(at).cloned()).collect()).collect())
}

async fn at_one_point(
    context: &Context,
    client: &Client,
    sides: &Sides,
    mut tables: Vec<VerifyTable>,
    options: &Options,
) -> Result<(Report, Vec<QualifiedName>)> {
    let name = format!("{} (verify)", context.name);
    let source = Side::at(context.source.clone(), &name, &sides.source_snapshot, Some(sides.lsn));
    let target = Side::at(context.target.clone(), &name, &sides.target_snapshot, None);
    let strangers = as_they_are_now(context, client, &source, &mut tables).await?;
    let options = Options { one_instant: true, ..options.clone() };
    Ok((compare(source, target, &tables, &options, &context.reporter).await?, strangers))
}

/// The tables that the run keeps fed.
async fn tables(client: &Client, run: &str) -> Result<Vec<VerifyTable>> {
    let mut tables = Vec::new();
    for table in RunTable::all(client, run).await? {
        if table.state == TableState::Left {
            continue;
        }
        let spec = table.spec()?;
        // What is copied once and not streamed may differ at once.
        if spec.streamed {
            tables.push(VerifyTable::whole(spec.clone()));
        }
    }
    Ok(tables)
}

/// Columns that the source has got since the run looked last are compared as well. A table that is gone, or no longer published, stays as
/// it was recorded: the comparison says what has become of it. Answers with tables that are published now and that the run does not know.
async fn as_they_are_now(
    context: &Context,
    client: &Client,
    source: &Side,
    tables: &mut [VerifyTable],
) -> Result<Vec<QualifiedName>> {
    let Some(run) = Run::read(client, &context.name).await? else { return Ok(Vec::new()) };
    let session = source.open().await?;
    let now = match publication::look(context, &session, &run.publications, run.publication_own).await {
        Err(error) if error.code() == "PUBLICATION_MISSING" => return Ok(Vec::new()),
        now => now?,
    };
    let mut now: HashMap<u32, TableSpec> = now.tables.into_iter().map(|spec| (spec.oid, spec)).collect();
    for table in tables {
        if let Some(spec) = now.remove(&table.spec.oid).filter(|spec| spec.name == table.spec.name) {
            table.spec = spec;
        }
    }
    let known: HashSet<QualifiedName> =
        RunTable::all(client, &context.name).await?.into_iter().map(|table| table.name).collect();
    let strangers = now.into_values().filter(|spec| spec.streamed && !known.contains(&spec.name));
    let mut strangers: Vec<QualifiedName> = strangers.map(|spec| spec.name).collect();
    strangers.sort();
    Ok(strangers)
}

fn options(context: &Context) -> Options {
    Options {
        jobs: context.settings.verify.jobs.get(),
        keys: context.settings.verify.keys,
        cancel: CancellationToken::clone(&context.cancel),
        ..Options::default()
    }
}

fn equal(report: &Report) -> Result<()> {
    match report.outcome() {
        Outcome::Equal => Ok(()),
        Outcome::Different => {
            let names: Vec<String> = report
                .tables
                .iter()
                .filter(|table| table.outcome == Outcome::Different)
                .map(|table| table.table.to_string())
                .collect();
            Err(Error::failed(
                "DIFFERENT",
                format!("{} table(s) differ between source and target", names.len()),
            )
            .detail(names.join(", "))
            .hint("walferry verify names the rows; put them right, then: walferry cutover"))
        }
        Outcome::Unverified => {
            Err(Error::new(Class::Unverifiable, "UNVERIFIED", "not everything could be compared")
                .hint("walferry verify says what and why"))
        }
    }
}
