//! One row in a million is found and named.

use std::time::Instant;

use writer::verify::{Options, Outcome};

use crate::support::{options as asked, programs};
use crate::verify_rig::{Rig, expect, options, table};

fn rows() -> u64 {
    if asked::full() { 10_000_000 } else { 1_000_000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_one_missing_and_one_extra_row_are_found_in_a_million() {
    let rig = Rig::start(15, 18).await;
    let rows = rows();
    rig.on_both(&format!(
        "CREATE TABLE t (id int8, note text, amount numeric(12,2), at timestamptz);
         INSERT INTO t SELECT g, 'note ' || g, g % 1000, 'epoch'::timestamptz + g * interval '1 s' FROM generate_series(1, {rows}) g;
         ALTER TABLE t ADD PRIMARY KEY (id)"
    ))
    .await;
    let began = Instant::now();
    let report = rig.compare().await;
    eprintln!("{rows} rows equal in {:?}", began.elapsed());
    expect(table(&report, "t"), &[], &[], &[]);
    assert_eq!(table(&report, "t").source_rows, Some(rows));
    assert_eq!((report.outcome(), report.exit_code()), (Outcome::Equal, 0));

    rig.target
        .sql(
            "postgres",
            &format!(
                "UPDATE t SET amount = amount + 0.01 WHERE id = {}; DELETE FROM t WHERE id = 17;
                 INSERT INTO t VALUES (-3, 'note', 1, now())",
                rows / 2
            ),
        )
        .await;
    let began = Instant::now();
    let report = rig.compare().await;
    eprintln!("three found in {:?}", began.elapsed());
    expect(table(&report, "t"), &[&(rows / 2).to_string()], &["17"], &["-3"]);
    assert_eq!(report.exit_code(), 1);

    // As many rows on both sides: counting proves nothing, and says what it is.
    let counted = rig.compare_with(&Options { counts: true, ..options() }).await;
    assert_eq!(counted.outcome(), Outcome::Equal);
    assert!(counted.to_string().contains("row counts of 1 table equal"), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_may_differ_in_bounded_memory() {
    let rig = Rig::start(18, 15).await;
    rig.on_both("CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE half (id int PRIMARY KEY)")
        .await;
    rig.source
        .sql(
            "postgres",
            "INSERT INTO t SELECT g, 'a' FROM generate_series(1, 150000) g;
                                INSERT INTO half SELECT generate_series(1, 50000)",
        )
        .await;
    rig.target.sql("postgres", "INSERT INTO t SELECT g, 'b' FROM generate_series(101, 150100) g").await;
    let report = rig.compare_with(&Options { keys: 5, ..options() }).await;
    let found = table(&report, "t");
    assert_eq!((found.changed, found.missing, found.extra), (149_900, 100, 100));
    assert_eq!(found.differences.len(), 5);
    let found = table(&report, "half");
    assert_eq!((found.changed, found.missing, found.extra), (0, 50_000, 0));
    assert!(report.to_string().contains("… and 49 995 more"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_majors_agrees() {
    let newest = programs::majors().into_iter().max().unwrap();
    for major in programs::majors() {
        let rig = Rig::start(major, newest).await;
        rig.on_both(
            "CREATE TABLE t (id int PRIMARY KEY, f float8, g float4[], note text);
             INSERT INTO t SELECT i, i / 3.0, ARRAY[i / 7.0, NULL], 'x' || i FROM generate_series(1, 2000) i;
             CREATE TABLE big (id int PRIMARY KEY, note text);
             INSERT INTO big SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 40000) i;
             ALTER TABLE big ALTER note SET STORAGE PLAIN",
        )
        .await;
        rig.target
            .sql(
                "postgres",
                "UPDATE t SET f = f + 1e-15 WHERE id = 1; UPDATE big SET note = 'y' WHERE id = 39999",
            )
            .await;
        let report = rig.compare().await;
        expect(table(&report, "t"), &["1"], &[], &[]);
        expect(table(&report, "big"), &["39999"], &[], &[]);
    }
}

/// The text of a bytea of 600 MB does not fit into a text. Takes some GB of memory, so only in full size.
#[tokio::test(flavor = "multi_thread")]
async fn rows_longer_than_a_text_can_be_are_compared_by_digests() {
    if !asked::full() {
        return;
    }
    let rig = Rig::start(15, 18).await;
    rig.on_both(
        "CREATE TABLE t (id int PRIMARY KEY, raw bytea, note text); ALTER TABLE t ALTER raw SET STORAGE EXTERNAL;
         INSERT INTO t SELECT 1, b || b || b, 'x' FROM (SELECT decode(repeat('ab', 200000000), 'hex') AS b) b;
         INSERT INTO t VALUES (2, 'small', 'y'), (3, NULL, NULL)",
    )
    .await;
    expect(table(&rig.compare().await, "t"), &[], &[], &[]);
    rig.target
        .sql("postgres", "UPDATE t SET note = NULL WHERE id = 1; UPDATE t SET raw = 'other' WHERE id = 2")
        .await;
    expect(table(&rig.compare().await, "t"), &["1", "2"], &[], &[]);
}
