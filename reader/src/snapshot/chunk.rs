//! Cuts tables into pieces that several connections read at once.
//!
//! A piece is a range of pages: `ctid >= '(from,0)' AND ctid < '(to,0)'`. Ranges hold only under the keeper's lock (VACUUM FULL moves
//! rows), only for heap tables (a partition root has no pages) and are worth it only from 14 on: before, each range was a full scan.
//! The last range has no end, so that pages that a table gains after the measuring belong to it.
//! TID range scans: <https://www.postgresql.org/docs/release/14.0/>

/// What the source says about the table's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Pages of the main fork.
    pub pages: u64,
    /// Bytes of the main forks of the table and its TOAST table; of all leaves for a root.
    pub bytes: u64,
    /// A plain table with the heap access method.
    pub heap: bool,
    /// What its indexes take to build, as if they were bytes of the table.
    pub index_effort: u64,
}

/// Pages `from..to` of a table; `to` absent: to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub from: u64,
    pub to: Option<u64>,
}

impl Range {
    /// The condition for WHERE.
    #[must_use]
    pub fn sql(&self) -> String {
        let from = format!("ctid >= '({},0)'::pg_catalog.tid", self.from);
        match self.to {
            Some(to) => format!("{from} AND ctid < '({to},0)'::pg_catalog.tid"),
            None => from,
        }
    }
}

/// One piece of one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Which of the tables given to [`plan`].
    pub table: usize,
    /// Absent: the whole table.
    pub range: Option<Range>,
}

/// Bounds of a piece, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkSizes {
    pub smallest: u64,
    pub largest: u64,
}

impl Default for ChunkSizes {
    fn default() -> Self {
        ChunkSizes { smallest: 64 << 20, largest: 1 << 30 }
    }
}

/// The pieces of every table, each table's pieces in order. The table that takes longest, indexes included, comes first: they are built while
/// other tables are read, and a table whose rows come last makes everybody wait for its slowest index.
#[must_use]
pub fn plan(tables: &[Sizes], jobs: usize, source_major: u32, bounds: ChunkSizes) -> Vec<Chunk> {
    let total: u64 = tables.iter().map(|table| table.bytes).sum();
    let jobs = u64::try_from(jobs.max(1)).unwrap_or(1);
    let chunk_bytes = (total / (4 * jobs)).max(bounds.smallest).min(bounds.largest).max(1);
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|&table| {
        std::cmp::Reverse(tables[table].bytes.saturating_add(tables[table].index_effort))
    });
    let mut chunks = Vec::with_capacity(tables.len());
    for table in order {
        let Sizes { pages, bytes, heap, .. } = tables[table];
        let pieces = if heap && source_major >= 14 && jobs > 1 {
            // A rest smaller than half a chunk is not worth a piece of its own.
            ((bytes + chunk_bytes / 2) / chunk_bytes).clamp(1, pages.max(1))
        } else {
            1
        };
        if pieces < 2 {
            chunks.push(Chunk { table, range: None });
            continue;
        }
        let bound = |n: u64| pages / pieces * n + (pages % pieces) * n / pieces;
        for n in 0..pieces {
            let to = (n + 1 < pieces).then(|| bound(n + 1));
            chunks.push(Chunk { table, range: Some(Range { from: bound(n), to }) });
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GB: u64 = 1 << 30;

    fn plan(tables: &[Sizes], jobs: usize, source_major: u32) -> Vec<Chunk> {
        super::plan(tables, jobs, source_major, ChunkSizes::default())
    }

    fn heap(bytes: u64) -> Sizes {
        Sizes { pages: bytes / 8192, bytes, heap: true, index_effort: 0 }
    }

    #[test]
    fn small_tables_stay_whole_and_the_biggest_comes_first() {
        let chunks = plan(&[heap(1000), heap(60 << 20), heap(8192)], 8, 18);
        assert_eq!(chunks.iter().map(|c| c.table).collect::<Vec<_>>(), [1, 2, 0]);
        assert!(chunks.iter().all(|c| c.range.is_none()));
    }

    #[test]
    fn the_table_with_slow_indexes_comes_before_a_bigger_one() {
        let slow = Sizes { index_effort: 30 << 20, ..heap(40 << 20) };
        let chunks = plan(&[heap(60 << 20), slow], 2, 18);
        assert_eq!(chunks.iter().map(|c| c.table).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_large_table_is_cut_and_its_last_range_is_open() {
        let chunks = plan(&[heap(8 * GB)], 2, 14);
        assert_eq!(chunks.len(), 8);
        assert_eq!(
            chunks[0].range.unwrap().sql(),
            "ctid >= '(0,0)'::pg_catalog.tid AND ctid < '(131072,0)'::pg_catalog.tid"
        );
        assert_eq!(chunks[7].range.unwrap().sql(), "ctid >= '(917504,0)'::pg_catalog.tid");
    }

    #[test]
    fn roots_other_access_methods_and_old_sources_are_read_whole() {
        assert_eq!(plan(&[heap(8 * GB)], 2, 13).len(), 1);
        assert_eq!(plan(&[Sizes { heap: false, ..heap(8 * GB) }], 2, 18).len(), 1);
        assert_eq!(plan(&[heap(8 * GB)], 1, 18).len(), 1);
    }

    #[test]
    fn wide_rows_out_of_line_count() {
        // One page of pointers to 3 GB of TOAST can't be cut further than its pages.
        let toast = Sizes { pages: 2, bytes: 3 * GB, heap: true, index_effort: 0 };
        assert_eq!(plan(&[toast], 8, 18).len(), 2);
    }

    proptest! {
        #[test]
        fn ranges_follow_each_other_without_a_gap(
            tables in proptest::collection::vec((0u64..1 << 33, 0u64..1 << 33, any::<bool>()), 1..20), jobs in 1usize..64
        ) {
            let tables: Vec<Sizes> = tables
                .into_iter()
                .map(|(main, toast, heap)| Sizes { pages: main / 8192, bytes: main + toast, heap, index_effort: toast })
                .collect();
            let chunks = plan(&tables, jobs, 18);
            for (index, sizes) in tables.iter().enumerate() {
                let of: Vec<_> = chunks.iter().filter(|c| c.table == index).map(|c| c.range).collect();
                prop_assert!(!of.is_empty());
                if of.len() == 1 {
                    prop_assert_eq!(of[0], None);
                    continue;
                }
                let mut next = 0;
                for (n, range) in of.iter().enumerate() {
                    let range = range.unwrap();
                    prop_assert_eq!(range.from, next);
                    match range.to {
                        Some(to) => { prop_assert!(to > range.from && to <= sizes.pages); next = to; }
                        None => prop_assert_eq!(n, of.len() - 1),
                    }
                }
                prop_assert!(of.len() as u64 <= 4 * jobs as u64 + 1 || sizes.bytes > GB);
            }
        }
    }
}
