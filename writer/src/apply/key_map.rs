//! Finds the entry of a key in a batch without an allocation per row: keys lie in one arena, hashes in one table.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use pipeline::Column;

/// Keys of one table in one piece, numbered in the order they were first seen.
#[derive(Default)]
pub struct KeyMap {
    table: HashTable<u32>,
    arena: Vec<u8>,
    /// End of each key in the arena, and its hash.
    keys: Vec<(usize, u64)>,
    hasher: RandomState,
}

impl KeyMap {
    /// Writes a key into `out` so that two keys are equal exactly if their bytes are. NULL and unchanged values make no key.
    #[must_use]
    pub fn encode<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = Column<'a>>) -> bool {
        out.clear();
        for value in values {
            let (Column::Text(bytes) | Column::Binary(bytes)) = value else { return false };
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        true
    }

    /// The encoded key with this number. Their order is that of numbers without a sign, and that of texts of one length.
    pub fn key(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.keys[index - 1].0 };
        &self.arena[start..self.keys[index].0]
    }

    /// The number of an encoded key and whether it is new.
    pub fn entry(&mut self, key: &[u8]) -> (usize, bool) {
        let hash = self.hasher.hash_one(key);
        if let Some(&found) =
            self.table.find(hash, |&index| self.keys[index as usize].1 == hash && self.key(index) == key)
        {
            return (found as usize, false);
        }
        let index = self.keys.len() as u32;
        self.arena.extend_from_slice(key);
        self.keys.push((self.arena.len(), hash));
        let keys = &self.keys;
        self.table.insert_unique(hash, index, |&index| keys[index as usize].1);
        (index as usize, true)
    }

    pub fn clear(&mut self) {
        self.table.clear();
        self.arena.clear();
        self.keys.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_one_entry() {
        let mut map = KeyMap::default();
        let mut key = Vec::new();
        assert!(KeyMap::encode(&mut key, [Column::Text(b"a"), Column::Text(b"bc")].into_iter()));
        assert_eq!(map.entry(&key), (0, true));
        assert!(KeyMap::encode(&mut key, [Column::Text(b"ab"), Column::Text(b"c")].into_iter()));
        assert_eq!(map.entry(&key), (1, true));
        assert!(KeyMap::encode(&mut key, [Column::Text(b"a"), Column::Text(b"bc")].into_iter()));
        assert_eq!(map.entry(&key), (0, false));
        assert!(!KeyMap::encode(&mut key, [Column::Null].into_iter()));
        map.clear();
        assert_eq!(map.entry(b"x"), (0, true));
    }
}
