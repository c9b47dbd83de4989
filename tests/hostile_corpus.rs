//! What the fuzzer has found once is met again by every run of the tests (`fuzz/`, `scripts/fuzz`).

#[path = "../fuzz/src/hostile/decoders.rs"]
mod decoders;
#[path = "../fuzz/src/hostile/server.rs"]
mod server;

use std::path::Path;

/// Gives every file of a target's corpus to it.
fn replay(target: &str, meet: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut met = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        eprintln!("{}", path.display());
        meet(&std::fs::read(&path).unwrap());
        met += 1;
    }
    assert!(met > 0, "{} is empty", folder.display());
}

#[test]
fn pgoutput() {
    replay("pgoutput", decoders::pgoutput);
}

#[test]
fn rows_for_narrower_columns() {
    replay("rows", decoders::rows);
}

#[test]
fn our_topics() {
    replay("envelope", decoders::envelope);
}

#[test]
fn topics_of_debezium() {
    replay("foreign", decoders::foreign);
}

#[test]
fn the_wire_protocol() {
    replay("wire", server::wire);
}

#[test]
fn copy_out() {
    replay("copy", server::copy);
}

#[test]
fn the_replication_protocol() {
    replay("replication", server::replication);
}
