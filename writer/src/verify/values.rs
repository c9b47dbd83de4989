//! The rows behind listed differences, where somebody has asked to see them.

use std::collections::HashMap;

use pg::Session;
use pg::{Error, Result};
use tokio_postgres::types::ToSql;

use super::report::{Difference, Kind, Values};
use super::side::Which;
use super::statement::Statements;

type Row = Vec<Option<String>>;

/// Fills in [`Difference::values`].
pub async fn fill(
    sessions: [&Session; 2],
    statements: [Statements<'_>; 2],
    differences: &mut [Difference],
) -> Result<(), (Which, Error)> {
    for which in [Which::Source, Which::Target] {
        let (session, statements) = (sessions[which.index()], statements[which.index()]);
        side(session, statements, which, differences).await.map_err(|error| (which, error))?;
    }
    for difference in differences {
        if difference.kind != Kind::Changed {
            continue;
        }
        if let Some(Values { source: Some(source), target: Some(target) }) = &mut difference.values {
            let same: Vec<bool> = source.iter().zip(target.iter()).map(|(a, b)| a == b).collect();
            let mut at = same.iter();
            source.retain(|_| !at.next().copied().unwrap_or(false));
            let mut at = same.iter();
            target.retain(|_| !at.next().copied().unwrap_or(false));
        }
    }
    Ok(())
}

async fn side(
    session: &Session,
    statements: Statements<'_>,
    which: Which,
    differences: &mut [Difference],
) -> Result<()> {
    let columns = &statements.pair.columns;
    let named = |row: &Row| columns.iter().cloned().zip(row.iter().cloned()).collect::<Vec<_>>();
    let by_key = by_key(session, statements, differences).await?;
    let by_place = by_place(session, statements, which, differences).await?;
    for difference in differences {
        let row = match &difference.key {
            Some(key) => by_key.get(key),
            None => places(difference, which).first().and_then(|place| by_place.get(place)),
        };
        let values = difference.values.get_or_insert_default();
        let side = if which == Which::Source { &mut values.source } else { &mut values.target };
        *side = row.map(named);
    }
    Ok(())
}

fn places(difference: &Difference, which: Which) -> &[String] {
    if which == Which::Source { &difference.source_places } else { &difference.target_places }
}

async fn by_key(
    session: &Session,
    statements: Statements<'_>,
    differences: &[Difference],
) -> Result<HashMap<Row, Row>> {
    let keys: Vec<&Row> = differences.iter().filter_map(|difference| difference.key.as_ref()).collect();
    let width = statements.pair.key.len();
    if keys.is_empty() || width == 0 {
        return Ok(HashMap::new());
    }
    let columns: Vec<Vec<Option<&str>>> =
        (0..width).map(|n| keys.iter().map(|key| key.get(n).and_then(Option::as_deref)).collect()).collect();
    let nulls: Vec<bool> = columns.iter().map(|column| column.iter().any(Option::is_none)).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
    let rows = session.query(&statements.values_by_key(&nulls), &parameters).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn by_place(
    session: &Session,
    statements: Statements<'_>,
    which: Which,
    differences: &[Difference],
) -> Result<HashMap<String, Row>> {
    let wanted: Vec<&str> = differences
        .iter()
        .filter(|difference| difference.key.is_none())
        .filter_map(|difference| places(difference, which).first())
        .map(String::as_str)
        .collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.query(&statements.values_by_place(), &[&wanted]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
