use futures_util::stream;

use super::*;

fn keyed(order: i64, key: &str, hash: i64) -> Result<Entry> {
    Ok(Entry { order, hash: (hash, 0), key: Some(vec![Some(key.into())]), place: None })
}

fn keyless(hash: i64, place: &str) -> Result<Entry> {
    Ok(Entry { order: hash, hash: (hash, 1), key: None, place: Some(place.into()) })
}

async fn merged(source: Vec<Result<Entry>>, target: Vec<Result<Entry>>, limit: usize) -> Merge {
    let mut result = Merge::new(limit);
    merge(&mut result, stream::iter(source), stream::iter(target)).await.unwrap();
    result
}

fn kinds(merge: &Merge) -> Vec<(Kind, String)> {
    let mut kinds: Vec<_> =
        merge.listed.iter().map(|d| (d.kind, d.key.clone().unwrap_or_default().concat_text())).collect();
    kinds.sort_by(|a, b| a.1.cmp(&b.1));
    kinds
}

trait ConcatText {
    fn concat_text(&self) -> String;
}

impl ConcatText for Vec<Option<String>> {
    fn concat_text(&self) -> String {
        self.iter().flatten().cloned().collect()
    }
}

#[tokio::test]
async fn each_kind_is_found() {
    let source = vec![keyed(-5, "a", 1), keyed(1, "b", 2), keyed(2, "c", 3)];
    let target = vec![keyed(-5, "a", 1), keyed(2, "c", 4), keyed(7, "d", 5)];
    let result = merged(source, target, 10).await;
    assert_eq!((result.changed, result.missing, result.extra), (1, 1, 1));
    let expected = [(Kind::Missing, "b"), (Kind::Changed, "c"), (Kind::Extra, "d")];
    assert_eq!(kinds(&result), expected.map(|(kind, key)| (kind, key.to_owned())));
}

#[tokio::test]
async fn keys_whose_hashes_collide_are_told_apart() {
    let source = vec![keyed(1, "a", 1), keyed(1, "b", 2)];
    let target = vec![keyed(1, "b", 1), keyed(1, "a", 1)];
    let result = merged(source, target, 10).await;
    assert_eq!(kinds(&result), [(Kind::Changed, "b".to_owned())]);
}

#[tokio::test]
async fn a_key_that_is_not_unique_counts_every_row() {
    let source = vec![keyed(1, "a", 1)];
    let target = vec![keyed(1, "a", 1), keyed(1, "a", 1), keyed(1, "a", 2)];
    let result = merged(source, target, 10).await;
    assert_eq!((result.changed, result.missing, result.extra), (0, 0, 2));
}

#[tokio::test]
async fn without_a_key_multiplicity_counts() {
    let source = vec![keyless(1, "(0,1)"), keyless(1, "(0,2)"), keyless(3, "(0,3)")];
    let target = vec![keyless(1, "(0,9)"), keyless(4, "(0,8)")];
    let result = merged(source, target, 10).await;
    assert_eq!((result.changed, result.missing, result.extra), (0, 2, 1));
    let doubled = result.listed.iter().find(|d| d.source_places.len() == 2).unwrap();
    assert_eq!((doubled.rows, doubled.kind), (1, Kind::Missing));
    assert_eq!(doubled.target_places, ["(0,9)"]);
}

#[tokio::test]
async fn counts_stay_exact_past_the_limit() {
    let source = (0..50).map(|n| keyed(n, &n.to_string(), n)).collect();
    let result = merged(source, Vec::new(), 3).await;
    assert_eq!((result.missing, result.listed.len()), (50, 3));
}
