//! From publications to tables, by pgoutput's own rules (get_rel_sync_entry): under which name each table's changes come, and which
//! filters and lists apply.
//!
//! A change of a partition comes under the topmost ancestor that any publication publishes through the root. Only the publications of
//! that level count for filter and list; the actions of all of them count.

use std::collections::HashMap;

use pg::{Error, Result};

use super::contents::{Contents, Publication, Relation};
use super::{Actions, PublishedTable};

/// What one publication does with one table.
struct Published<'a> {
    publication: &'a Publication,
    /// The table under whose name changes come, and how many levels up it is.
    under: u32,
    level: usize,
}

pub(super) fn resolve(contents: &Contents) -> Result<Vec<PublishedTable>> {
    let by_oid: HashMap<u32, &Relation> =
        contents.relations.iter().map(|relation| (relation.oid, relation)).collect();
    let mut tables: Vec<PublishedTable> = Vec::new();
    let mut index: HashMap<u32, usize> = HashMap::new();
    for relation in &contents.relations {
        let published: Vec<Published<'_>> = contents
            .publications
            .iter()
            .filter_map(|publication| publish(contents, &by_oid, publication, relation))
            .collect();
        let Some(level) = published.iter().map(|p| p.level).max() else { continue };
        let mut actions = Actions::default();
        for one in &published {
            actions = actions.or(one.publication.actions);
        }
        let deciding: Vec<&Published<'_>> = published.iter().filter(|p| p.level == level).collect();
        let Some(root) = deciding.first().and_then(|p| by_oid.get(&p.under)) else { continue };
        let at = match index.get(&root.oid) {
            Some(&at) => at,
            None => {
                index.insert(root.oid, tables.len());
                let publications: Vec<&Publication> = deciding.iter().map(|p| p.publication).collect();
                tables.push(describe(contents, root, &publications)?);
                tables.len() - 1
            }
        };
        tables[at].actions = tables[at].actions.or(actions);
        if !relation.partitioned {
            tables[at].covers.push(relation.oid);
        }
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    for table in &mut tables {
        table.covers.sort_unstable();
    }
    Ok(tables)
}

fn publish<'a>(
    contents: &Contents,
    relations: &HashMap<u32, &Relation>,
    publication: &'a Publication,
    relation: &Relation,
) -> Option<Published<'a>> {
    let named = |oid: u32| {
        contents.members.contains_key(&(publication.oid, oid))
            || relations
                .get(&oid)
                .is_some_and(|table| contents.schemas.contains(&(publication.oid, table.schema_oid)))
    };
    // The number of levels up to the topmost ancestor that is published; ancestors are nearest first.
    let level = if publication.all_tables {
        relation.ancestors.len()
    } else {
        relation.ancestors.iter().rposition(|ancestor| named(*ancestor)).map_or(0, |at| at + 1)
    };
    let published = publication.all_tables || level > 0 || named(relation.oid);
    // A partitioned table has no rows of its own: without the root's name its leaves speak for themselves.
    if !published || relation.partitioned && !publication.via_root {
        return None;
    }
    let level = if publication.via_root { level } else { 0 };
    let under = if level == 0 { relation.oid } else { relation.ancestors[level - 1] };
    Some(Published { publication, under, level })
}

fn describe(contents: &Contents, table: &Relation, publications: &[&Publication]) -> Result<PublishedTable> {
    // What FOR ALL TABLES or TABLES IN SCHEMA publishes has neither filter nor list, named or not.
    let entry = |publication: &Publication| {
        let whole = publication.all_tables || contents.schemas.contains(&(publication.oid, table.schema_oid));
        contents.members.get(&(publication.oid, table.oid)).filter(|_| !whole)
    };
    let lists: Vec<Option<&Vec<String>>> =
        publications.iter().map(|publication| entry(publication).and_then(|m| m.columns.as_ref())).collect();
    if let Some(at) = lists.iter().position(|list| *list != lists[0]) {
        return Err(Error::refuse(
            "COLUMN_LISTS_DIFFER",
            format!(
                "publications \"{}\" and \"{}\" publish different columns of table {}",
                publications[0].name, publications[at].name, table.name
            ),
        )
        .hint(format!(
            "give the table the same column list in both: ALTER PUBLICATION … SET TABLE {} (…); or name one of the publications only",
            table.name
        )));
    }
    let mut filters: Vec<&str> = Vec::new();
    let mut unfiltered = false;
    for publication in publications {
        match entry(publication).and_then(|member| member.filter.as_deref()) {
            None => unfiltered = true,
            Some(filter) if !filters.contains(&filter) => filters.push(filter),
            Some(_) => {}
        }
    }
    let filter = match filters.as_slice() {
        _ if unfiltered => None,
        [] => None,
        [one] => Some((*one).to_owned()),
        several => {
            let each: Vec<String> = several.iter().map(|filter| format!("({filter})")).collect();
            Some(format!("({})", each.join(" OR ")))
        }
    };
    Ok(PublishedTable {
        name: table.name.clone(),
        oid: table.oid,
        columns: lists[0].cloned(),
        filter,
        root: table.partitioned,
        actions: Actions::default(),
        generated: publications.iter().any(|publication| publication.generated),
        covers: Vec::new(),
    })
}
