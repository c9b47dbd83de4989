//! One server for each major and side, for all tests of the process: it ends with the process (`scratch`).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::support::Postgres;

type Cell = &'static OnceCell<Postgres>;

/// The shared server of a major; `side` tells source and target apart.
pub async fn shared(major: u32, side: &'static str) -> &'static Postgres {
    static CELLS: Mutex<Option<HashMap<(u32, &'static str), Cell>>> = Mutex::new(None);
    let cell: Cell = {
        let mut cells = CELLS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cells.get_or_insert_default().entry((major, side)).or_insert_with(|| Box::leak(Box::default()))
    };
    cell.get_or_init(|| start(major)).await
}

/// A server of the test's own: for what the others would notice (prepared transactions, settings of the server).
pub async fn own(major: u32) -> &'static Postgres {
    Box::leak(Box::new(start(major).await))
}

async fn start(major: u32) -> Postgres {
    Postgres::builder(major)
        .setting("max_replication_slots", 200)
        .setting("max_wal_senders", 200)
        .setting("max_connections", 500)
        .start()
        .await
}

/// A database name nobody else has.
pub fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("feed_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
