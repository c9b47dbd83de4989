//! Settings of roles and databases that change under a run.

use super::{DB, Scene};
use crate::support::oracle::{self, Events};
use crate::support::{Postgres, Walferry};

/// Values that look different, or lose something, under other settings than ours.
const VALUES: &str = "CREATE TABLE v (id int PRIMARY KEY, at timestamptz, d date, f float8, r float4, m money, i interval, b bytea, x xml, a text[], c regclass);";

fn row(id: u32) -> String {
    format!(
        "SET extra_float_digits = 3; SET xmloption = content; SET datestyle = 'ISO, YMD'; SET lc_monetary = 'C';
         INSERT INTO v VALUES ({id}, '2026-03-04 05:06:07.891011+05:45', '0044-03-15 BC', 0.1::float8 + 0.2::float8, 1.1::float4 * 1.1::float4,
            (-1234567.89)::numeric::money, '-1 mon +2 days -03:04:05.6', decode('00ff5c', 'hex'), 'two <a/> roots <b/>', ARRAY['{{', NULL, 'NULL'], 'public.v')"
    )
}

#[tokio::test]
async fn row_72_settings_of_database_and_role_change_between_two_connections() {
    let scene =
        Scene::small_with(Postgres::builder(18).database(DB), Postgres::builder(15).database(DB)).await;
    scene.source.sql(DB, VALUES).await;
    scene.source.sql(DB, &row(1)).await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    for server in [&scene.source, &scene.target] {
        let settings = [
            "datestyle = 'German, DMY'",
            "timezone = 'Asia/Kathmandu'",
            "extra_float_digits = -10",
            "intervalstyle = 'sql_standard'",
            "bytea_output = 'escape'",
            "xmloption = 'document'",
            "search_path = 'nowhere'",
            "lc_monetary = 'C.UTF-8'",
            "array_nulls = off",
            "standard_conforming_strings = off",
            "backslash_quote = off",
            "default_transaction_isolation = 'serializable'",
            "client_encoding = 'LATIN1'",
            "default_transaction_read_only = on",
            "quote_all_identifiers = on",
            "enable_indexscan = off",
            "row_security = on",
            "default_transaction_deferrable = on",
            "check_function_bodies = on",
            "client_min_messages = 'debug1'",
        ];
        for setting in settings {
            // A server that does not know one does not matter.
            let _ = server.try_sql("postgres", &format!("ALTER DATABASE {DB} SET {setting}")).await;
            let _ = server
                .try_sql("postgres", &format!("ALTER ROLE postgres IN DATABASE {DB} SET {setting}"))
                .await;
        }
        let end = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE application_name LIKE 'walferry%'";
        server.wait_until("postgres", end, std::time::Duration::from_secs(20)).await;
    }
    let writable = "SET TRANSACTION READ WRITE; SET search_path = public; SET standard_conforming_strings = on; SET array_nulls = on;";
    for id in 2..6 {
        scene.source.sql(DB, &format!("{writable} {}", row(id))).await;
    }
    scene.source.sql(DB, &format!("{writable} UPDATE v SET f = f / 3, m = m * 2 WHERE id < 3")).await;
    let marker = oracle::marker(&scene.source, "postgres").await;
    let status = running.wait_applied(marker).await;
    for server in [&scene.source, &scene.target] {
        server
            .sql(
                "postgres",
                &format!("ALTER DATABASE {DB} RESET ALL; ALTER ROLE postgres IN DATABASE {DB} RESET ALL"),
            )
            .await;
    }
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    let third: f64 = scene.target.value(DB, "SELECT f FROM v WHERE id = 1").await;
    assert_eq!(third, (0.1_f64 + 0.2) / 3.0, "all the digits");
}

/// As row 69, with what servers from 17 on have besides, for the whole of a transaction that is longer.
#[tokio::test]
async fn row_69_a_transaction_timeout_of_the_role_counts_for_nothing() {
    let scene = Scene::with(Postgres::builder(17).database(DB), Postgres::builder(18).database(DB)).await;
    for server in [&scene.source, &scene.target] {
        server.create_role("mover", "SUPERUSER").await;
        server.sql("postgres", "ALTER ROLE mover SET transaction_timeout = '70ms'; ALTER ROLE mover SET statement_timeout = '60ms'").await;
    }
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let run = Walferry::new(&scene.source.uri_as("mover", DB), &scene.target.uri_as("mover", DB))
        .command("migrate");
    let mut running = run
        .args(&["--set", "apply.batch_bytes=256kB"])
        .failpoint("copy-before-commit", "2*sleep(300)")
        .failpoint("apply-inside-transaction", "2*sleep(300)")
        .spawn();
    running.wait_for_step("live").await;
    scene.source.sql(DB, "UPDATE big SET v = v || 'x'").await;
    load.wait_committed(load.committed() + 30).await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    assert!(!running.stderr().contains("timeout"), "{}", running.stderr());
    scene.close(running, load, &events).await;
}
