//! The whole run over a schema that uses everything: killed while the schema is made and while indexes are built, cut over in the end.

use crate::schema_round_trip::{everything, pair};
use crate::support::oracle::{expect_same, expect_same_sequences, expect_same_structure};
use crate::support::walferry::Walferry;

const ROWS: &str = r#"
INSERT INTO app.accounts ("E-Mail", name, manager, home, tags, during, room)
SELECT 'a' || i || '@b', 'n' || i, CASE WHEN i > 1 THEN 10 END, ROW('street'::text, i, NULL::varchar)::app.address, hstore('k', i::text),
       tstzrange('2020-01-01', '2020-01-02') , i FROM generate_series(1, 200) i;
INSERT INTO app.orders (account) SELECT 10 + 5 * (i % 200) FROM generate_series(0, 199) i;
INSERT INTO app.items SELECT i, i, i FROM generate_series(1, 200) i;
UPDATE app.orders SET latest_item = id;
INSERT INTO "Odd ""Schema"".x"."odd
table; Type: VIEW; Schema: app" ("a""b", "new
line") SELECT i, 'x' || i FROM generate_series(1, 100) i;
INSERT INTO app.dog (id, name) SELECT i, 'd' || i FROM generate_series(1, 50) i;
INSERT INTO app.animal (id, name) SELECT i, 'a' || i FROM generate_series(100, 150) i;
INSERT INTO app.measures SELECT '2020-01-01'::date + i, i % 3, i FROM generate_series(1, 1000) i;
INSERT INTO app.computed SELECT generate_series(1, 10);
INSERT INTO app.hashed SELECT i, 10 FROM generate_series(1, 20) i;
INSERT INTO app.to_hashed SELECT generate_series(1, 20);
SELECT nextval('app.free_standing'), nextval('app.free_standing');
REFRESH MATERIALIZED VIEW app.totals;
REFRESH MATERIALIZED VIEW app.totals_of_totals;
REFRESH MATERIALIZED VIEW app.a_first_by_name;
REFRESH MATERIALIZED VIEW app.grouped_mat;
"#;

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_crashes_and_a_cutover() {
    let (source, target) = pair(15, 15).await;
    source.sql("app", &everything(15)).await;
    source.sql("app", ROWS).await;
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let migrate = || walferry.command("migrate").args(&["--keyless", "full", "--jobs", "3"]);
    for (failpoint, action) in [
        ("schema-restored", "panic"),
        ("index-before-commit", "5*off->panic"),
        ("index-after-commit", "9*off->panic"),
    ] {
        let crashed = migrate().failpoint(failpoint, action).run().await;
        assert!(crashed.code > 128, "no crash at {failpoint} but {}:\n{}", crashed.code, crashed.said());
    }
    let mut running = migrate().spawn();
    running.wait_for_step("live").await;
    source.sql("app", "UPDATE app.accounts SET name = 'changed' WHERE id = 10; UPDATE app.orders SET latest_item = NULL; DELETE FROM app.items WHERE no > 190").await;
    let refused =
        target.try_sql("app", "INSERT INTO app.animal VALUES (1000, 'x')").await.expect_err("it is not open");
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"));
    walferry.command("cutover").args(&["--verify", "none"]).run().await.expect_code(0);
    running.wait_exit().await.expect_code(0);
    let (from, to) = (source.uri("app"), target.uri("app"));
    // What `--keyless full` has set for the run, and `clean` would set back, is not carried over.
    for table in ["computed", "nothing", "nulls", "packed"] {
        source.sql("app", &format!("ALTER TABLE app.{table} REPLICA IDENTITY DEFAULT")).await;
    }
    expect_same_structure(&from, &to).await;
    expect_same_sequences(&from, &to).await;
    expect_same(&from, &to).await;
    target.sql("app", "INSERT INTO app.animal VALUES (1000, 'x')").await;
    let filled =
        "SELECT bool_and(relispopulated = (relname <> 'unpopulated')) FROM pg_class WHERE relkind = 'm'";
    assert!(target.value::<bool>("app", filled).await);
}
