//! `walferry copy`: a dump and restore of a database in use, that leaves nothing of its own.

use std::time::Duration;

use crate::support::{Postgres, Walferry};

const SCHEMA: &str = "
    CREATE SCHEMA app;
    CREATE TABLE app.parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
    CREATE TABLE app.child (id serial PRIMARY KEY, parent int NOT NULL REFERENCES app.parent, big text);
    CREATE TABLE app.keyless (v int);
    CREATE MATERIALIZED VIEW app.totals AS SELECT count(*) AS n FROM app.child;
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || '!'; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE INSERT ON app.parent FOR EACH ROW EXECUTE FUNCTION app.touch();
    INSERT INTO app.parent (v) SELECT 'p' || g FROM generate_series(1, 1000) g;
    INSERT INTO app.child (parent, big) SELECT 1 + g % 1000, repeat(md5(g::text), 10) FROM generate_series(1, 20000) g;
    INSERT INTO app.keyless SELECT g % 3 FROM generate_series(1, 100) g;
    REFRESH MATERIALIZED VIEW app.totals;";

async fn pair(wal_level: &str) -> (Postgres, Postgres) {
    let source = Postgres::builder(15).setting("wal_level", wal_level).database("app").start().await;
    let target = Postgres::builder(15).database("app").start().await;
    source.sql("app", SCHEMA).await;
    (source, target)
}

async fn left(source: &Postgres, target: &Postgres) -> i64 {
    let slots = source.value::<i64>("app", "SELECT count(*) FROM pg_replication_slots").await;
    let publications = source.value::<i64>("app", "SELECT count(*) FROM pg_publication").await;
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'walferry%'";
    slots + publications + target.value::<i64>("app", schemas).await
}

#[tokio::test]
async fn everything_arrives_and_nothing_of_ours_is_left() {
    // No slot is needed, so no logical WAL either.
    let (source, target) = pair("replica").await;
    Walferry::new(&source.uri("app"), &target.uri("app")).command("copy").run().await.expect_code(0);
    for query in [
        "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM app.parent t",
        "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM app.child t",
        "SELECT md5(string_agg(t::text, ',' ORDER BY v)) FROM app.keyless t",
        "SELECT n::text FROM app.totals",
        "SELECT last_value::text FROM app.child_id_seq",
        "SELECT string_agg(conname || convalidated, ',' ORDER BY conname) FROM pg_constraint
         WHERE connamespace = 'app'::regnamespace AND contype <> 'n'",
        "SELECT string_agg(indexdef, ',' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'app'",
        "SELECT string_agg(tgname, ',') FROM pg_trigger WHERE NOT tgisinternal",
        "SELECT attidentity::text FROM pg_attribute WHERE attrelid = 'app.parent'::regclass AND attname = 'id'",
    ] {
        assert_eq!(
            source.value::<Option<String>>("app", query).await,
            target.value::<Option<String>>("app", query).await,
            "{query}"
        );
    }
    assert_eq!(left(&source, &target).await, 0);
    // The copy is a database like any other: it takes writes, and numbers go on.
    target.sql("app", "INSERT INTO app.child (parent) VALUES (1)").await;
}

#[tokio::test]
async fn a_copy_that_is_stopped_leaves_no_rows_and_no_record() {
    let (source, target) = pair("logical").await;
    // Somebody holds a table up, so that the copy is still at it when the signal comes.
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let lock = source.connect("app").await;
    lock.batch_execute("BEGIN; LOCK TABLE app.child IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut run = walferry.command("copy").spawn();
    source
        .wait_until(
            "app",
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'app.child'::regclass)",
            Duration::from_secs(20),
        )
        .await;
    assert!(run.is_running());
    run.sigterm();
    run.wait_exit_within(Duration::from_secs(20)).await.expect_code(143);
    drop(lock);
    assert_eq!(left(&source, &target).await, 0);
}

#[tokio::test]
async fn killed_it_is_started_over_by_hand() {
    let (source, target) = pair("logical").await;
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let run = walferry.command("copy").failpoint("copy-before-commit", "sleep(120000)").spawn();
    target.wait_until("app", "SELECT to_regclass('app.child') IS NOT NULL", Duration::from_secs(20)).await;
    run.kill9().await;
    let again = walferry.command("copy").run().await;
    assert_ne!(again.code, 0, "{again:#?}");
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM app.child").await, 0, "{again:#?}");
    assert_eq!(left(&source, &target).await, 0);
    target.sql("app", "DROP SCHEMA app CASCADE").await;
    walferry.command("copy").run().await.expect_code(0);
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM app.child").await, 20_000);
}

#[tokio::test]
async fn into_existing_tables_rows_are_appended() {
    let (source, target) = pair("logical").await;
    target
        .sql("app", "CREATE SCHEMA app; CREATE TABLE app.keyless (extra text DEFAULT 'e', v bigint); INSERT INTO app.keyless (v) VALUES (7)")
        .await;
    Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("copy")
        .args(&["--existing-schema", "--table", "app.keyless"])
        .run()
        .await
        .expect_code(0);
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM app.keyless WHERE extra = 'e'").await, 101);
    assert_eq!(left(&source, &target).await, 0);
}

#[tokio::test]
async fn a_value_that_the_target_would_round_is_not_copied() {
    let (source, target) = pair("logical").await;
    source
        .sql(
            "app",
            "CREATE TABLE app.prices (note text, n numeric(10,4));
             INSERT INTO app.prices SELECT E'a\t\\n' || g, g + 0.25 FROM generate_series(1, 20000) g; INSERT INTO app.prices VALUES (NULL, NULL)",
        )
        .await;
    let narrow = "CREATE TABLE app.prices (n numeric(10,2), note text)";
    target.sql("app", &format!("CREATE SCHEMA app; {narrow}")).await;
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let copy = || walferry.command("copy").args(&["--existing-schema", "--table", "app.prices"]);
    // Said beforehand, and no reason to refuse what fits.
    let narrower = "1 column(s) are narrower on the target";
    let first = copy().run().await.expect_code(0);
    assert!(first.stderr.contains(narrower) && first.stderr.contains("TYPE numeric(10,4)"), "{first:#?}");
    let rows = "SELECT count(*)::text || sum(n)::numeric(20,4) || count(DISTINCT note) FROM app.prices";
    let same =
        async || source.value::<String>("app", rows).await == target.value::<String>("app", rows).await;
    assert!(same().await);
    target.sql("app", "TRUNCATE app.prices").await;
    source.sql("app", "INSERT INTO app.prices VALUES ('b', 1.0001)").await;
    let refused = copy().run().await.expect_code(1);
    assert!(
        refused.stderr.contains("COLUMN_NARROWER") && refused.stderr.contains("TYPE numeric(10,4)"),
        "{refused:#?}"
    );
    assert!(!refused.stderr.contains("1.0001"), "{refused:#?}");
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM app.prices").await, 0);
    target.sql("app", "ALTER TABLE app.prices ALTER n TYPE numeric(10,4)").await;
    let last = copy().run().await.expect_code(0);
    assert!(!last.stderr.contains("narrower"), "{last:#?}");
    assert!(same().await);
}

#[tokio::test]
async fn a_copy_that_fails_ends_with_1_and_leaves_no_rows() {
    let (source, target) = pair("logical").await;
    // The rows arrive, then the primary key is refused (not while the tables are empty, when the schema is tried out).
    target
        .sql(
            "app",
            "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%child_pkey') THEN
                 IF EXISTS (SELECT FROM app.parent) THEN RAISE EXCEPTION 'no index today'; END IF;
               END IF; END $$;
             CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION public.refuse()",
        )
        .await;
    let copy =
        Walferry::new(&source.uri("app"), &target.uri("app")).command("copy").run().await.expect_code(1);
    assert!(copy.stderr.contains("no index today"), "{copy:#?}");
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM app.parent").await, 0);
    assert_eq!(left(&source, &target).await, 0);
}
