//! The publications that a run makes for itself.
//!
//! Partition roots are named from 13 on, so that later partitions belong to them; below, leaves. Changes come under the leaves' names.
//! Inheritance children are tables of their own (ONLY). A table without a replica identity never gets into a publication that publishes
//! updates or deletes: the application's own UPDATE would fail from that moment on.
//! <https://www.postgresql.org/docs/current/logical-replication-publication.html#LOGICAL-REPLICATION-PUBLICATION-REPLICA-IDENTITY>

use std::collections::{HashMap, HashSet};

use pg::{QualifiedName, Result, Session, quote_ident};
use pipeline::{ReplicaIdentity, TableSpec};

/// What becomes of tables without a replica identity (`--keyless`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Without {
    /// Nothing is made while there are any.
    #[default]
    Refuse,
    /// REPLICA IDENTITY FULL is set on the source.
    Full,
    /// They go into a second publication, which publishes no updates.
    Inserts,
}

/// A table without a replica identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeylessTable {
    pub name: QualifiedName,
    /// REPLICA IDENTITY NOTHING was chosen; otherwise it is DEFAULT, and there is no primary key.
    pub nothing: bool,
}

impl KeylessTable {
    /// The statement of `--keyless full`.
    #[must_use]
    pub fn set_full(&self) -> String {
        format!("ALTER TABLE {} REPLICA IDENTITY FULL", self.name)
    }

    /// What follows REPLICA IDENTITY in the statement that sets it back.
    #[must_use]
    pub fn identity_before(&self) -> &'static str {
        if self.nothing { "NOTHING" } else { "DEFAULT" }
    }
}

/// A plan for the run's own publications.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnPublication {
    /// `<name>`, and `<name>_inserts` where there are tables for it.
    pub names: Vec<String>,
    /// Members of each, as they stand in the SQL.
    pub members: Vec<Vec<QualifiedName>>,
    /// CREATE PUBLICATION, one statement each.
    pub create: Vec<String>,
    /// Tables without identity, whatever is done about them.
    pub keyless: Vec<KeylessTable>,
}

/// Has no identity: publishing its updates would make the application's own UPDATE fail.
#[must_use]
pub fn is_keyless(table: &TableSpec) -> bool {
    table.streamed
        && match table.identity {
            ReplicaIdentity::Nothing => true,
            ReplicaIdentity::Full => false,
            ReplicaIdentity::Default | ReplicaIdentity::Index => table.key.is_empty(),
        }
}

/// Plans the run's own publications for the tables of `selected`.
pub async fn plan_own(
    session: &Session,
    name: &str,
    tables: &[TableSpec],
    without: Without,
) -> Result<OwnPublication> {
    let streamed: Vec<&TableSpec> = tables.iter().filter(|table| table.streamed).collect();
    let apart: HashSet<u32> = match without {
        Without::Inserts => {
            streamed.iter().filter(|table| is_keyless(table)).map(|table| table.oid).collect()
        }
        Without::Refuse | Without::Full => HashSet::new(),
    };
    let all: HashSet<u32> = streamed.iter().map(|table| table.oid).collect();
    let with: HashSet<u32> = all.difference(&apart).copied().collect();
    let keyless = streamed
        .iter()
        .filter(|table| is_keyless(table))
        .map(|table| KeylessTable {
            name: table.name.clone(),
            nothing: table.identity == ReplicaIdentity::Nothing,
        })
        .collect();
    let mut plan = OwnPublication {
        names: vec![name.to_owned()],
        members: vec![members(session, &with).await?],
        create: Vec::new(),
        keyless,
    };
    plan.create.push(create(name, &plan.members[0], None));
    if !apart.is_empty() {
        let inserts = format!("{name}_inserts");
        let members = members(session, &apart).await?;
        let publish = if session.version().major() >= 11 { "insert, truncate" } else { "insert" };
        plan.create.push(create(&inserts, &members, Some(publish)));
        plan.names.push(inserts);
        plan.members.push(members);
    }
    Ok(plan)
}

/// `publish`: what is published, if not everything.
fn create(name: &str, tables: &[QualifiedName], publish: Option<&str>) -> String {
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {table}")).collect();
    let tables = if list.is_empty() { String::new() } else { format!(" FOR TABLE {}", list.join(", ")) };
    let publish = publish.map(|publish| format!(" WITH (publish = '{publish}')")).unwrap_or_default();
    format!("CREATE PUBLICATION {}{tables}{publish}", quote_ident(name))
}

/// What a table is to its partition tree.
struct Node {
    name: QualifiedName,
    partitioned: bool,
    publishable: bool,
    parent: Option<u32>,
}

/// A partitioned table stands for its leaves from 13 on, as long as all of them are wanted: the topmost such one.
async fn members(session: &Session, wanted: &HashSet<u32>) -> Result<Vec<QualifiedName>> {
    let rows = session
        .query(
            "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relkind IN ('r', 'p') AND c.relpersistence = 'p',
                    (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'f') AND c.oid >= 16384",
            &[],
        )
        .await?;
    let nodes: HashMap<u32, Node> = rows
        .iter()
        .map(|row| {
            let node = Node {
                name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
                partitioned: row.get(3),
                publishable: row.get(4),
                parent: row.get(5),
            };
            (row.get(0), node)
        })
        .collect();
    Ok(stand_ins(&nodes, wanted, session.version().major() >= 13))
}

fn stand_ins(nodes: &HashMap<u32, Node>, wanted: &HashSet<u32>, roots: bool) -> Vec<QualifiedName> {
    // A partitioned table with a leaf that is not wanted, or that can't be published, does not stand for the others.
    let mut torn: HashSet<u32> = HashSet::new();
    for (oid, node) in nodes {
        if !node.partitioned && (!wanted.contains(oid) || !node.publishable) {
            let mut up = node.parent;
            while let Some(parent) = up.filter(|parent| torn.insert(*parent)) {
                up = nodes.get(&parent).and_then(|node| node.parent);
            }
        }
    }
    let mut names: Vec<QualifiedName> = Vec::new();
    for oid in wanted {
        let (mut top, mut up) = (*oid, nodes.get(oid).and_then(|node| node.parent));
        while let Some(parent) = up.filter(|parent| roots && !torn.contains(parent)) {
            (top, up) = (parent, nodes.get(&parent).and_then(|node| node.parent));
        }
        names.extend(nodes.get(&top).map(|node| node.name.clone()));
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, partitioned: bool, parent: Option<u32>) -> Node {
        Node { name: QualifiedName::new("s", name), partitioned, publishable: true, parent }
    }

    fn names(nodes: &HashMap<u32, Node>, wanted: &[u32], roots: bool) -> Vec<String> {
        stand_ins(nodes, &wanted.iter().copied().collect(), roots).into_iter().map(|name| name.name).collect()
    }

    #[test]
    fn a_root_stands_for_its_leaves_if_all_are_wanted() {
        let nodes = HashMap::from([
            (1, node("root", true, None)),
            (2, node("a", false, Some(1))),
            (3, node("mid", true, Some(1))),
            (4, node("b", false, Some(3))),
            (5, node("c", false, Some(3))),
            (6, node("plain", false, None)),
        ]);
        assert_eq!(names(&nodes, &[2, 4, 5, 6], true), ["plain", "root"]);
        assert_eq!(names(&nodes, &[2, 4, 5, 6], false), ["a", "b", "c", "plain"]);
        assert_eq!(names(&nodes, &[4, 5], true), ["mid"]);
        assert_eq!(names(&nodes, &[2, 4], true), ["a", "b"]);
    }

    #[test]
    fn every_name_is_quoted_and_children_are_left_out() {
        let sql = create("a\"b", &[QualifiedName::new("s", "t"), QualifiedName::new("s", "u,v")], None);
        assert_eq!(sql, "CREATE PUBLICATION \"a\"\"b\" FOR TABLE ONLY \"s\".\"t\", ONLY \"s\".\"u,v\"");
        assert_eq!(create("p", &[], Some("insert")), "CREATE PUBLICATION \"p\" WITH (publish = 'insert')");
    }
}
