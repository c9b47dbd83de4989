//! Tables by OID, as last described.

use std::collections::HashMap;
use std::sync::Arc;

use pg::{QualifiedName, Result};
use pipeline::{Relation, RelationColumn, RelationId, ReplicaIdentity};

use super::cursor::{Cursor, malformed};

/// The last Relation message of each table.
#[derive(Default)]
pub(super) struct Relations {
    by_id: HashMap<RelationId, Arc<Relation>>,
    /// The one asked for last: runs of changes to one table need no lookup.
    last: Option<Arc<Relation>>,
}

impl Relations {
    pub(super) fn get(&mut self, id: RelationId) -> Result<Arc<Relation>> {
        if let Some(last) = &self.last
            && last.id == id
        {
            return Ok(last.clone());
        }
        let found =
            self.by_id.get(&id).ok_or_else(|| malformed(format!("no description of relation {}", id.0)))?;
        self.last = Some(found.clone());
        Ok(found.clone())
    }

    /// Takes a Relation message in. The same description again keeps the allocation, so that pointer equality tells versions apart.
    pub(super) fn describe(&mut self, message: &mut Cursor) -> Result<()> {
        let relation = read(message)?;
        if self.by_id.get(&relation.id).is_some_and(|known| **known == relation) {
            return Ok(());
        }
        self.last = None;
        self.by_id.insert(relation.id, Arc::new(relation));
        Ok(())
    }
}

fn read(message: &mut Cursor) -> Result<Relation> {
    let id = message.relation_id()?;
    let mut schema = message.string()?;
    if schema.is_empty() {
        "pg_catalog".clone_into(&mut schema);
    }
    let name = message.string()?;
    let identity = match message.u8()? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        other => return Err(malformed(format!("replica identity {other:#04x}"))),
    };
    let count = message.u16()?;
    let columns = (0..count)
        .map(|_| {
            let flags = message.u8()?;
            Ok(RelationColumn {
                name: message.string()?,
                type_id: message.u32()?,
                type_modifier: message.i32()?,
                key: flags & 1 != 0 || identity == ReplicaIdentity::Full,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Relation { id, name: QualifiedName::new(schema, name), identity, columns })
}
