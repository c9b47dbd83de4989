//! Publications in every combination, against the rules of pgoutput.

use pg::QualifiedName;

use super::contents::{Contents, Member, Publication, Relation};
use super::resolve::resolve;
use super::{Actions, PublicationSettings, PublicationState, PublishedTable};

const ALL: Actions = Actions { insert: true, update: true, delete: true, truncate: true };

fn relation(oid: u32, name: &str, partitioned: bool, ancestors: &[u32]) -> Relation {
    Relation {
        oid,
        name: QualifiedName::new("s", name),
        schema_oid: 9,
        partitioned,
        ancestors: ancestors.to_vec(),
    }
}

/// A plain table 1 "t"; a tree 10 "root" > 11 "leaf_a", 12 "mid" > 13 "leaf_b".
fn contents(publications: &[(&str, bool, bool)]) -> Contents {
    Contents {
        publications: publications
            .iter()
            .zip(100..)
            .map(|((name, all_tables, via_root), oid)| Publication {
                name: (*name).to_owned(),
                oid,
                all_tables: *all_tables,
                actions: ALL,
                via_root: *via_root,
                generated: false,
            })
            .collect(),
        relations: vec![
            relation(1, "t", false, &[]),
            relation(10, "root", true, &[]),
            relation(11, "leaf_a", false, &[10]),
            relation(12, "mid", true, &[10]),
            relation(13, "leaf_b", false, &[12, 10]),
        ],
        ..Contents::default()
    }
}

fn filter(text: &str) -> Member {
    Member { filter: Some(text.to_owned()), columns: None }
}

fn columns(names: &[&str]) -> Member {
    Member { filter: None, columns: Some(names.iter().map(|name| (*name).to_owned()).collect()) }
}

fn names(contents: &Contents) -> Vec<String> {
    resolve(contents).unwrap().into_iter().map(|table| table.name.name).collect()
}

#[test]
fn a_tree_comes_as_leaves_or_as_its_topmost_published_ancestor() {
    let mut leaf = contents(&[("p", false, false)]);
    leaf.members.insert((100, 10), Member::default());
    assert_eq!(names(&leaf), ["leaf_a", "leaf_b"]);
    let mut root = contents(&[("p", false, true)]);
    root.members.insert((100, 10), Member::default());
    root.members.insert((100, 12), Member::default());
    assert_eq!(names(&root), ["root"]);
    assert_eq!(resolve(&root).unwrap()[0].covers, [11, 13]);
    let mut middle = contents(&[("p", false, true)]);
    middle.members.insert((100, 12), Member::default());
    assert_eq!(names(&middle), ["mid"]);
    assert_eq!(names(&contents(&[("p", true, true)])), ["root", "t"]);
    assert_eq!(names(&contents(&[("p", true, false)])), ["leaf_a", "leaf_b", "t"]);
}

#[test]
fn over_several_publications_the_topmost_ancestor_decides() {
    let mut both = contents(&[("leaves", false, false), ("roots", false, true)]);
    both.members.insert((100, 13), filter("(a > 1)"));
    both.members.insert((101, 10), filter("(a > 2)"));
    both.publications[0].actions = Actions { insert: true, ..Actions::default() };
    both.publications[1].actions = Actions { update: true, ..Actions::default() };
    let tables = resolve(&both).unwrap();
    assert_eq!(tables.len(), 1);
    // The partition's own filter does not count, its publication's actions do.
    assert_eq!(tables[0].filter.as_deref(), Some("(a > 2)"));
    assert!(tables[0].actions.insert && tables[0].actions.update && !tables[0].actions.delete);
    assert!(tables[0].root);
}

#[test]
fn filters_are_ored_and_none_means_none() {
    let mut two = contents(&[("a", false, false), ("b", false, false), ("c", false, false)]);
    two.members.insert((100, 1), filter("(x = 1)"));
    two.members.insert((101, 1), filter("(x = 2)"));
    assert_eq!(resolve(&two).unwrap()[0].filter.as_deref(), Some("(((x = 1)) OR ((x = 2)))"));
    two.members.insert((101, 1), filter("(x = 1)"));
    assert_eq!(resolve(&two).unwrap()[0].filter.as_deref(), Some("(x = 1)"));
    two.members.insert((102, 1), Member::default());
    assert_eq!(resolve(&two).unwrap()[0].filter, None);
    two.members.remove(&(102, 1));
    two.schemas.push((102, 9));
    assert!(resolve(&two).unwrap().iter().all(|table| table.filter.is_none()));
    let mut named = contents(&[("a", true, false)]);
    named.members.insert((100, 1), filter("(x = 1)"));
    assert!(resolve(&named).unwrap().iter().all(|table| table.filter.is_none()));
}

#[test]
fn different_lists_are_refused_by_name() {
    let mut lists = contents(&[("a", false, false), ("b", false, false)]);
    lists.members.insert((100, 1), columns(&["id", "x"]));
    lists.members.insert((101, 1), columns(&["id", "x"]));
    assert_eq!(resolve(&lists).unwrap()[0].columns.as_deref(), Some(&["id".to_owned(), "x".to_owned()][..]));
    for other in [columns(&["id"]), Member::default()] {
        lists.members.insert((101, 1), other);
        let error = resolve(&lists).unwrap_err();
        assert_eq!(error.code(), "COLUMN_LISTS_DIFFER");
        assert!(error.primary().contains("table \"s\".\"t\""), "{error}");
    }
}

fn state(tables: &[(u32, &str, &[u32])]) -> PublicationState {
    let settings = PublicationSettings { oid: 5, actions: ALL, via_root: false };
    PublicationState {
        publications: [("p".to_owned(), settings)].into(),
        tables: tables
            .iter()
            .map(|(oid, name, covers)| PublishedTable {
                name: QualifiedName::new("s", *name),
                oid: *oid,
                columns: None,
                filter: None,
                root: covers.len() != 1,
                actions: ALL,
                generated: false,
                covers: covers.to_vec(),
            })
            .collect(),
    }
}

#[test]
fn nothing_changes_by_itself() {
    let state = state(&[(1, "t", &[1]), (10, "root", &[11, 13])]);
    assert!(state.changes_since(&state.clone()).is_empty());
    let stored = serde_json::to_value(&state).unwrap();
    assert_eq!(serde_json::from_value::<PublicationState>(stored).unwrap(), state);
}

#[test]
fn tables_join_leave_and_change() {
    let before = state(&[(1, "t", &[1]), (2, "u", &[2]), (3, "v", &[3])]);
    let mut now = state(&[(1, "t", &[1]), (20, "u", &[20]), (4, "w", &[4])]);
    now.tables[0].filter = Some("(x > 1)".to_owned());
    now.tables[0].columns = Some(vec!["x".to_owned()]);
    let changes = now.changes_since(&before);
    // "u" was dropped and made anew.
    let joined: Vec<&str> = changes.joined.iter().map(|joined| joined.name.name.as_str()).collect();
    let left: Vec<&str> = changes.left.iter().map(|name| name.name.as_str()).collect();
    assert_eq!((joined, left), (vec!["u", "w"], vec!["u", "v"]));
    assert!(changes.joined.iter().all(|joined| joined.before.is_empty() && joined.uncovered.len() == 1));
    assert_eq!((changes.filters.len(), changes.columns.len()), (1, 1));
    assert_eq!(changes.uncertain(&now), [QualifiedName::new("s", "t")]);
    now.publications.get_mut("p").unwrap().oid = 6;
    assert_eq!(now.changes_since(&before).recreated, ["p"]);
}

#[test]
fn rows_that_only_change_their_name_in_the_stream_were_copied() {
    let leaves = state(&[(11, "leaf_a", &[11]), (13, "leaf_b", &[13])]);
    let root = state(&[(10, "root", &[11, 13, 14])]);
    let changes = root.changes_since(&leaves);
    assert_eq!(changes.joined[0].before.len(), 2);
    assert_eq!(changes.joined[0].uncovered, [14]);
    let back = leaves.changes_since(&root);
    assert!(back.joined.iter().all(|joined| joined.before.len() == 1 && joined.uncovered.is_empty()));
    // A table that was renamed is a new one.
    let renamed = state(&[(11, "other", &[11])]);
    assert_eq!(renamed.changes_since(&leaves).joined[0].uncovered, [11]);
}
