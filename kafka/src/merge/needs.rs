//! Which tables' events a writer applies. What it doesn't need it neither reads nor waits for.

use std::collections::HashMap;

use pg::{Lsn, QualifiedName};

/// A table's events with a commit LSN in `from..until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    pub from: Lsn,
    pub until: Option<Lsn>,
}

/// What is needed of each table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// By the name that END has for it.
    tables: HashMap<String, Option<Need>>,
    /// Tables that are not named.
    others: bool,
}

impl Needs {
    /// `None`: not ours. `others`: of tables that are not named, everything is needed, so that whoever applies finds out about them.
    pub fn new(tables: impl IntoIterator<Item = (QualifiedName, Option<Need>)>, others: bool) -> Needs {
        let tables =
            tables.into_iter().map(|(name, need)| (format!("{}.{}", name.schema, name.name), need)).collect();
        Needs { tables, others }
    }

    pub(super) fn wants(&self, collection: &str, commit_lsn: Lsn) -> bool {
        match self.tables.get(collection) {
            None => self.others,
            Some(None) => false,
            Some(Some(Need { from, until })) => {
                commit_lsn >= *from && until.is_none_or(|until| commit_lsn < until)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_needed_within_its_bounds() {
        let need = |from, until: Option<u64>| Some(Need { from: Lsn::new(from), until: until.map(Lsn::new) });
        let name = |name: &str| QualifiedName::new("s", name);
        let needs = Needs::new(
            [(name("a"), need(10, None)), (name("b"), need(5, Some(20))), (name("c"), None)],
            false,
        );
        let wanted = |lsn| ["s.a", "s.b", "s.c", "s.d"].map(|name| needs.wants(name, Lsn::new(lsn)));
        assert_eq!(wanted(9), [false, true, false, false]);
        assert_eq!(wanted(10), [true, true, false, false]);
        assert_eq!(wanted(20), [true, false, false, false]);
        assert!(Needs::new([], true).wants("s.d", Lsn::ZERO));
    }
}
