//! What happens to a schema that doesn't fit, is interrupted, belongs to several roles, or is only a part.

use std::time::Duration;

use pg::{Class, Params, Purpose, QualifiedName, Session};
use tokio_postgres::Client;
use writer::schema::{self, Phase};

use crate::schema_round_trip::{RUN, Transfer, pair};
use crate::support::postgres::Postgres;

async fn one(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}")).get(0)
}

async fn sqlstate(client: &Client, sql: &str) -> Option<String> {
    client.batch_execute(sql).await.err().map(|e| e.code().expect("a server's error").code().to_owned())
}

const TABLES_OF_OURS: &str =
    "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'walferry')";

#[tokio::test]
async fn what_does_not_fit_is_named_before_the_first_row() {
    let (older, source, target, newer) =
        tokio::join!(Postgres::start(13), Postgres::start(15), Postgres::start(15), Postgres::start(18));
    for (at, (from, to, ddl, named, hint)) in [
        (
            18,
            15,
            "CREATE TABLE app.virtual (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)",
            "table \"app.virtual\"",
            "version",
        ),
        (
            18,
            15,
            "CREATE TABLE app.p (a int4range, b int4range, PRIMARY KEY (a, b WITHOUT OVERLAPS))",
            "constraint \"app.p p_pkey\"",
            "version",
        ),
        (
            15,
            13,
            "CREATE TABLE app.n (a int, UNIQUE NULLS NOT DISTINCT (a))",
            "constraint \"app.n n_a_key\"",
            "version",
        ),
        (
            15,
            15,
            "CREATE ROLE stranger; CREATE TABLE app.s (); ALTER TABLE app.s OWNER TO stranger",
            "table \"app.s\"",
            "role",
        ),
        (15, 15, "CREATE TABLE app.there ()", "table \"app.there\"", "drop it there"),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("app{at}");
        let source = if from == 18 { &newer } else { &source };
        let target = if to == 13 { &older } else { &target };
        source.create_database(&database).await;
        target.create_database(&database).await;
        source.sql(&database, &format!("CREATE SCHEMA app; CREATE TABLE app.first (a int); {ddl}")).await;
        if named.contains("there") {
            target.sql(&database, "CREATE SCHEMA app; CREATE TABLE app.there ()").await;
        }
        let before: String = target.value(&database, TABLES_OF_OURS).await;
        let error =
            Transfer::new(source, target, &database).await.restore().await.expect_err("it doesn't fit");
        let text = error.to_string();
        assert!(text.contains(named), "{text}");
        assert!(error.hint_text().is_some_and(|text| text.contains(hint)), "{:?}", error.hint_text());
        assert_eq!(error.class(), Class::Stop);
        assert_eq!(target.value::<String>(&database, TABLES_OF_OURS).await, before, "something is left");
        assert_eq!(target.value::<i64>(&database, "SELECT count(*) FROM walferry.post_data").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_cut_short_is_built_by_the_next_start() {
    let (source, target) = pair(15, 15).await;
    source.sql("app", "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX t_a ON t (a)").await;
    let transfer = Transfer::new(&source, &target, "app").await;
    transfer.restore().await.expect("a restore");
    // A lock makes the build wait where it is.
    let holder = target.connect("app").await;
    holder.batch_execute("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").await.unwrap();
    let victim = transfer.admin().await;
    let pid = victim.backend_pid();
    let items = schema::missing(&victim, RUN, Phase::Index, None).await.unwrap();
    assert_eq!(items.len(), 2);
    let first = items[0].clone();
    let building = tokio::spawn(async move { schema::run_item(&victim, RUN, &first).await });
    let waits = format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}");
    target.wait_until("app", &waits, Duration::from_secs(20)).await;
    target.sql("postgres", &format!("SELECT pg_terminate_backend({pid})")).await;
    let error = building.await.unwrap().expect_err("its session was ended");
    assert_eq!(error.class(), Class::Connection, "{error}");
    holder.batch_execute("COMMIT").await.unwrap();
    let session = transfer.admin().await;
    assert_eq!(schema::missing(&session, RUN, Phase::Index, None).await.unwrap(), items);
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM pg_indexes WHERE tablename = 't'").await, 0);
    transfer.phase(Phase::Index).await;
    transfer.phase(Phase::Attach).await;
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM pg_indexes WHERE tablename = 't'").await, 2);
    // Done is done.
    transfer.phase(Phase::Index).await;
    let of_t =
        schema::missing(&session, RUN, Phase::Index, Some(&QualifiedName::new("public", "t"))).await.unwrap();
    assert_eq!(of_t, []);
}

#[tokio::test]
async fn rows_that_break_a_constraint_are_never_shown() {
    let (source, target) = pair(15, 15).await;
    source.sql("app", "CREATE TABLE t (id int, secret text UNIQUE)").await;
    let transfer = Transfer::new(&source, &target, "app").await;
    transfer.restore().await.expect("a restore");
    let rows = "SET session_replication_role = replica; INSERT INTO t VALUES (1, 'canary'), (2, 'canary')";
    target.sql("app", rows).await;
    let session = transfer.admin().await;
    let items = schema::missing(&session, RUN, Phase::Index, None).await.unwrap();
    let error = schema::run_item(&session, RUN, &items[0]).await.expect_err("it is not unique");
    let said = format!("{error} {:?} {:?} {error:?}", error.hint_text(), error.detail_text());
    assert!(error.is("23505") && said.contains("t t_secret_key") && !said.contains("canary"), "{said}");
    // The session can go on.
    target.sql("app", "SET session_replication_role = replica; DELETE FROM t WHERE id = 2").await;
    schema::run_item(&session, RUN, &items[0]).await.expect("it is unique now");
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_writers_wait_for_the_opening_and_readers_do_not_hold_it_up() {
    let (source, target) = pair(15, 15).await;
    source
        .sql(
            "app",
            "CREATE TABLE plain (a int); CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
             CREATE TABLE root (a int) PARTITION BY LIST (a); CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1)",
        )
        .await;
    let transfer = Transfer::new(&source, &target, "app").await;
    transfer.restore().await.expect("a restore");
    let writer = target.connect("app").await;
    let commands = |table: &str| {
        ["INSERT INTO $ VALUES (1)", "UPDATE $ SET a = 1", "DELETE FROM $", "TRUNCATE $", "COPY $ FROM STDIN"]
            .map(|command| command.replace('$', table))
    };
    for command in ["plain", "parent", "child", "root", "leaf"].iter().flat_map(|table| commands(table)) {
        if !command.starts_with("COPY") {
            assert_eq!(sqlstate(&writer, &command).await.as_deref(), Some("25006"), "{command}");
        }
    }
    writer.batch_execute("SET walferry.apply = 'another run'").await.unwrap();
    assert_eq!(sqlstate(&writer, "INSERT INTO leaf VALUES (1)").await.as_deref(), Some("25006"));
    writer.batch_execute("SET walferry.apply = 'schema'; INSERT INTO root VALUES (1)").await.unwrap();
    writer
        .batch_execute("RESET walferry.apply; SET session_replication_role = replica; DELETE FROM leaf")
        .await
        .unwrap();
    writer.batch_execute("RESET session_replication_role").await.unwrap();
    // Again, for the same tables: nothing happens.
    let admin = transfer.admin().await;
    schema::protect(&*admin, RUN, &[QualifiedName::new("public", "root")]).await.unwrap();

    let reader = target.connect("app").await;
    reader.batch_execute("BEGIN; SELECT * FROM plain; SELECT * FROM root").await.unwrap();
    let opened = tokio::time::timeout(Duration::from_secs(5), schema::open(&admin, RUN)).await;
    opened.expect("readers hold nothing up").unwrap();
    writer
        .batch_execute("INSERT INTO plain VALUES (1); INSERT INTO root VALUES (1); TRUNCATE parent")
        .await
        .unwrap();
    assert!(!schema::drop_protection(&admin, RUN).await.unwrap());
    reader.batch_execute("COMMIT").await.unwrap();
    assert!(schema::drop_protection(&admin, RUN).await.unwrap());
    assert_eq!(one(&admin, "SELECT count(*)::text FROM pg_trigger").await, "0");
    // Without protection there is nothing to open.
    schema::open(&admin, RUN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roles_share_the_work() {
    let (source, target) = pair(15, 15).await;
    source.sql("app", "CREATE SCHEMA s; CREATE TABLE s.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY); GRANT SELECT ON s.t TO PUBLIC").await;
    target.create_role("owner_of_tables", "").await;
    target.create_role("feeder", "").await;
    target
        .sql(
            "app",
            "GRANT CREATE ON DATABASE app TO owner_of_tables; CREATE SCHEMA walferry AUTHORIZATION feeder",
        )
        .await;
    let mut transfer = Transfer::new(&source, &target, "app").await;
    transfer.options.no_owner = true;
    transfer.target = Params::parse(&target.uri_as("owner_of_tables", "app")).unwrap();
    let feeder = Params::parse(&target.uri_as("feeder", "app")).unwrap();
    let control = Session::connect(&feeder, Purpose::TargetControl, RUN).await.unwrap();
    writer::control::ensure(&control).await.unwrap();
    control
        .batch_execute(
            "INSERT INTO walferry.tables (run, schema, name, state, created, spec) VALUES ('schema', 's', 't', 'pending', true, '{}')",
        )
        .await
        .unwrap();
    schema::let_admin_in(&control, "owner_of_tables").await.unwrap();
    transfer.restore().await.unwrap_or_else(|e| panic!("{e} {:?}", e.hint_text()));
    let apply = "SET walferry.apply = 'schema'; INSERT INTO s.t VALUES (1); UPDATE s.t SET id = 2; DELETE FROM s.t; TRUNCATE s.t";
    control.batch_execute(apply).await.unwrap();
    for phase in Phase::ALL {
        transfer.phase(phase).await;
    }
    transfer.open().await;
    assert_eq!(sqlstate(&control, "INSERT INTO s.t DEFAULT VALUES").await.as_deref(), Some("42501"));
    let acl = "SELECT relacl::text FROM pg_class WHERE oid = 's.t'::regclass";
    assert_eq!(
        one(&*transfer.admin().await, acl).await,
        "{owner_of_tables=arwdDxt/owner_of_tables,=r/owner_of_tables}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_database_brings_what_it_stands_on() {
    let (source, target) = pair(15, 15).await;
    source
        .sql(
            "app",
            "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION hstore; CREATE SCHEMA app; CREATE SCHEMA other;
             CREATE DOMAIN app.mail AS ext.citext; CREATE TABLE app.a (m app.mail, id serial PRIMARY KEY); CREATE TABLE app.b (x int);
             CREATE TABLE other.c (c ext.citext, h hstore, a int CONSTRAINT \"to a\" REFERENCES app.a);
             COMMENT ON CONSTRAINT \"to a\" ON other.c IS 'goes with it'; CREATE SEQUENCE other.unrelated;
             CREATE SEQUENCE other.used; ALTER TABLE app.b ALTER COLUMN x SET DEFAULT nextval('other.used')",
        )
        .await;
    let client = source.connect("app").await;
    let a = [QualifiedName::new("app", "a"), QualifiedName::new("app", "b")];
    assert_eq!(schema::used_extensions(&client, &a).await.unwrap(), ["citext"]);
    let c = [QualifiedName::new("other", "c")];
    assert_eq!(schema::used_extensions(&client, &c).await.unwrap(), ["citext", "hstore"]);

    let mut transfer = Transfer::new(&source, &target, "app").await;
    transfer.dump = transfer.dump.clone().with_extensions(vec!["citext".to_owned(), "hstore".to_owned()]);
    transfer.options.tables = vec!["other.c".to_owned()];
    assert_eq!(transfer.restore().await.unwrap(), c);
    target.sql("app", "SELECT c, h FROM other.c").await;
    let left_out = transfer.left_out.lock().expect("a lock").join("\n");
    assert_eq!(left_out, "fk constraint \"other.c to a\" is left out: the target has no table \"app\".\"a\"");
    for phase in Phase::ALL {
        transfer.phase(phase).await;
    }

    // The default of a partition, the identity of its root.
    source
        .sql(
            "app",
            "CREATE TABLE app.root (id int GENERATED ALWAYS AS IDENTITY, k serial) PARTITION BY LIST (k);
             CREATE TABLE app.leaf PARTITION OF app.root DEFAULT",
        )
        .await;
    let leaf = [QualifiedName::new("app", "leaf")];
    let of_leaf = schema::read_sequences_of(&client, &leaf).await.unwrap();
    let of_leaf: Vec<&str> = of_leaf.iter().map(|state| state.name.name.as_str()).collect();
    assert_eq!(of_leaf, ["root_id_seq", "root_k_seq"]);

    let mut names: Vec<String> = Vec::new();
    for state in schema::read_sequences_of(&client, &a).await.unwrap() {
        names.push(state.name.name);
    }
    assert_eq!(names, ["a_id_seq", "used"]);
}

#[tokio::test]
async fn sequences_stand_where_the_source_s_stood() {
    let (source, target) = pair(10, 15).await;
    let ddl = "CREATE SCHEMA s; CREATE SEQUENCE s.called; CREATE SEQUENCE s.never START 7; CREATE SEQUENCE s.\"do$$wn 'x'\" INCREMENT -2;
               CREATE TABLE s.t (id serial, i int GENERATED ALWAYS AS IDENTITY);";
    source.sql("app", ddl).await;
    source.sql("app", "SELECT nextval('s.called'), nextval('s.called'); SELECT nextval('s.\"do$$wn ''x''\"'); INSERT INTO s.t DEFAULT VALUES").await;
    source.sql("app", "CREATE SEQUENCE s.only_here").await;
    target.sql("app", ddl).await;
    let (from, to) = (source.connect("app").await, target.connect("app").await);
    let states = schema::read_sequences(&from, &["s".to_owned()]).await.unwrap();
    assert_eq!(states.len(), 6);
    assert_eq!(schema::set_sequences(&to, &states).await.unwrap(), 5);
    let now = schema::read_sequences(&to, &["s".to_owned()]).await.unwrap();
    assert!(now.iter().all(|state| states.contains(state)) && now.len() == 5, "{now:?}");
    assert_eq!(one(&to, "SELECT nextval('s.never')::text").await, "7");
    target.sql("app", "ALTER SEQUENCE s.called MAXVALUE 2 RESTART 1; ALTER SEQUENCE s.never MINVALUE 9 START 9 RESTART 9").await;
    let error = schema::set_sequences(&to, &states).await.expect_err("out of bounds");
    assert!(error.to_string().contains("\"never\""), "{error}");
}

#[tokio::test]
async fn materialized_views_are_refreshed_in_order_and_statistics_gathered() {
    let (source, target) = pair(15, 15).await;
    let ddl = "CREATE TABLE t (a int); CREATE TABLE root (a int) PARTITION BY LIST (a); CREATE TABLE leaf PARTITION OF root DEFAULT;
               CREATE MATERIALIZED VIEW z_first AS SELECT count(*) AS n FROM t;
               CREATE VIEW between AS SELECT n FROM z_first; CREATE MATERIALIZED VIEW a_last AS SELECT n FROM between;
               CREATE MATERIALIZED VIEW not_populated AS SELECT 1 WITH NO DATA;
               CREATE MATERIALIZED VIEW orphan AS SELECT 1 AS one FROM not_populated";
    source
        .sql("app", &ddl.replace("orphan AS SELECT 1 AS one FROM not_populated", "orphan AS SELECT 1 AS one"))
        .await;
    target.sql("app", &ddl.replace("FROM not_populated", "FROM not_populated WITH NO DATA")).await;
    let rows = "INSERT INTO t SELECT generate_series(1, 1000); INSERT INTO root SELECT 1 FROM t";
    source.sql("app", rows).await;
    target.sql("app", rows).await;
    let params = Params::parse(&target.uri("app")).unwrap();
    let session = Session::connect(&params, Purpose::TargetAdmin, RUN).await.unwrap();
    let refreshed = schema::refresh_matviews(&source.connect("app").await, &session, &["public".to_owned()])
        .await
        .unwrap();
    assert_eq!(refreshed, 2);
    assert_eq!(one(&session, "SELECT n::text FROM public.a_last").await, "1000");

    let second = Session::connect(&params, Purpose::TargetAdmin, RUN).await.unwrap();
    let tables = ["t", "leaf", "gone"].map(|name| QualifiedName::new("public", name));
    schema::analyze_in_parallel(&[session, second], &tables, schema::Which::All).await.unwrap();
    let known = "SELECT string_agg(DISTINCT starelid::regclass::text, ' ') FROM pg_statistic
                 WHERE starelid IN ('t'::regclass, 'root'::regclass, 'leaf'::regclass)";
    assert_eq!(target.value::<String>("app", known).await, "leaf root t");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_goes_to_its_own_tablespace() {
    let (source, target) = pair(15, 15).await;
    for server in [&source, &target] {
        let client = server.connect("app").await;
        for name in ["fast", "\"odd; one\""] {
            client.batch_execute("SET allow_in_place_tablespaces = on").await.unwrap();
            client.batch_execute(&format!("CREATE TABLESPACE {name} LOCATION ''")).await.unwrap();
        }
    }
    source
        .sql(
            "app",
            "CREATE TABLE a (x int PRIMARY KEY USING INDEX TABLESPACE fast, y int) TABLESPACE \"odd; one\";
             CREATE TABLE b (x int PRIMARY KEY, y int); CREATE INDEX b_y ON b (y) TABLESPACE fast; CREATE INDEX a_y ON a (y)",
        )
        .await;
    let transfer = Transfer::new(&source, &target, "app").await;
    transfer.restore().await.unwrap();
    for phase in Phase::ALL {
        transfer.phase(phase).await;
    }
    let places = "SELECT string_agg(relname || ' ' || coalesce(spcname, '-'), ', ' ORDER BY relname) FROM pg_class c
                  LEFT JOIN pg_tablespace t ON t.oid = reltablespace WHERE relnamespace = 'public'::regnamespace";
    let (from, to): (String, String) = (source.value("app", places).await, target.value("app", places).await);
    assert_eq!(from, to);
    assert_eq!(to, "a odd; one, a_pkey fast, a_y -, b -, b_pkey -, b_y fast");
}

#[tokio::test]
async fn pg_dump_s_failures_say_what_to_do() {
    let source: Postgres = Postgres::builder(15).database("app").start().await;
    source.create_role("reader", "").await;
    source.sql("app", "CREATE TABLE t (a int)").await;
    let mut transfer = Transfer::new(&source, &source, "app").await;
    transfer.source = Params::parse(&source.uri_as("reader", "app")).unwrap();
    let error =
        transfer.dump.section(&transfer.source, "pre-data", &transfer.options).await.expect_err("no SELECT");
    assert!(
        error.hint_text().is_some_and(|hint| hint.contains("GRANT SELECT")),
        "{error} {:?}",
        error.hint_text()
    );
    transfer.source = Params::parse(&source.uri("app")).unwrap();
    transfer.options.snapshot = Some("00000003-0000001B-1".to_owned());
    let error = transfer
        .dump
        .section(&transfer.source, "pre-data", &transfer.options)
        .await
        .expect_err("no snapshot");
    assert_eq!((error.class(), error.code()), (Class::Connection, "PG_DUMP_SNAPSHOT"), "{error}");
    transfer.options.snapshot = None;
    let holder = source.connect("app").await;
    holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let dump = transfer.dump.clone().lock_wait(Duration::from_millis(100));
    let error = dump.section(&transfer.source, "pre-data", &transfer.options).await.expect_err("locked");
    assert_eq!(error.code(), "PG_DUMP_LOCKED", "{error}");
    let error = schema::PgDump::find(None, 99).await.expect_err("there is no such version");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("postgresql-client-99")), "{error}");
}
