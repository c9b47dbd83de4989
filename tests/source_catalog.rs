//! What a run would move, as the source's catalogs say it, on servers from 10 to 18.

use pg::{Params, Purpose, QualifiedName, Session};
use pipeline::ReplicaIdentity;
use reader::catalog::{PublicationState, Selection, Without, plan_own, published, selected};

use crate::support::Postgres;

async fn session(server: &Postgres) -> Session {
    let params = Params::parse(&server.uri("postgres")).unwrap();
    Session::connect(&params, Purpose::Query, "walferry").await.unwrap()
}

async fn chosen(session: &Session, selection: &Selection) -> Vec<String> {
    let tables = selected(session, selection).await.unwrap();
    tables.iter().map(|table| format!("{}.{}", table.name.schema, table.name.name)).collect()
}

async fn state(session: &Session, names: &[&str]) -> pg::Result<PublicationState> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    PublicationState::read(session, &names).await
}

fn names(state: &PublicationState) -> Vec<&str> {
    state.tables.iter().map(|table| table.name.name.as_str()).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

const SCHEMA: &str = r#"
    CREATE SCHEMA app; CREATE SCHEMA "Other.x"; CREATE SCHEMA walferry;
    CREATE TABLE walferry.runs (id int);
    CREATE TABLE orders (id int PRIMARY KEY, note text);
    CREATE TABLE app.orders (id int, line int, note varchar(20) NOT NULL, PRIMARY KEY (line, id));
    CREATE TABLE app.order_log (at timestamptz);
    CREATE TABLE app."Order" (id int UNIQUE NOT NULL, x numeric(10,2));
    ALTER TABLE app."Order" REPLICA IDENTITY USING INDEX "Order_id_key";
    CREATE TABLE "Other.x"."t$1" (id int PRIMARY KEY DEFERRABLE);
    CREATE UNLOGGED TABLE app.cache (id int PRIMARY KEY);
    CREATE TABLE app.parent (id int PRIMARY KEY);
    CREATE TABLE app.child (PRIMARY KEY (id)) INHERITS (app.parent);
    CREATE TABLE app.sales (id int NOT NULL, day date) PARTITION BY RANGE (id);
    CREATE TABLE app.sales_1 PARTITION OF app.sales FOR VALUES FROM (0) TO (10);
    CREATE TABLE app.sales_2 PARTITION OF app.sales FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (day);
    CREATE TABLE app.sales_2a PARTITION OF app.sales_2 FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
    ALTER TABLE app.sales_1 REPLICA IDENTITY FULL;
    ALTER TABLE app.sales_2a REPLICA IDENTITY FULL;
    CREATE VIEW app.v AS SELECT 1;
"#;

#[tokio::test]
async fn tables_are_chosen_by_pg_dump_s_patterns() {
    for major in [10, 13, 15, 18] {
        let server = Postgres::start(major).await;
        server.sql("postgres", SCHEMA).await;
        let session = session(&server).await;
        let all = chosen(&session, &Selection::default()).await;
        assert_eq!(
            all,
            [
                "Other.x.t$1",
                "app.Order",
                "app.cache",
                "app.child",
                "app.order_log",
                "app.orders",
                "app.parent",
                "app.sales_1",
                "app.sales_2a",
                "public.orders"
            ],
            "{major}"
        );
        let by = |schemas: &[&str], out_schemas: &[&str], tables: &[&str], out_tables: &[&str]| Selection {
            schemas: strings(schemas),
            exclude_schemas: strings(out_schemas),
            tables: strings(tables),
            exclude_tables: strings(out_tables),
        };
        for (selection, expected) in [
            (by(&["PUBLIC"], &[], &[], &[]), "public.orders"),
            (by(&["a*", "pub?ic"], &["APP"], &[], &[]), "public.orders"),
            (by(&["\"Other.x\""], &[], &[], &[]), "Other.x.t$1"),
            // As a plain name would be found.
            (by(&[], &[], &["order*"], &[]), "public.orders"),
            // Case matters in quotes alone; --table makes --schema void.
            (by(&["public"], &[], &["app.ORDER*"], &["*.*_log"]), "app.orders"),
            (by(&[], &[], &["app.\"Order\""], &[]), "app.Order"),
            (by(&[], &[], &["\"Other.x\".\"t$1\"", "*.t$1"], &[]), "Other.x.t$1"),
            // A partitioned table brings its partitions along.
            (by(&[], &[], &["app.sales"], &["app.sales_1"]), "app.sales_2a"),
        ] {
            assert_eq!(chosen(&session, &selection).await, [expected], "{major}: {selection:?}");
        }
        let path = "ALTER DATABASE postgres SET search_path = app, public";
        server.sql("postgres", path).await;
        let visible = chosen(&session, &by(&[], &[], &["orders"], &[])).await;
        assert_eq!(visible, ["app.orders"], "{major}");
        let pinned: String = session.query_one("SHOW search_path", &[]).await.unwrap().get(0);
        assert_eq!(pinned, "pg_catalog");
    }
}

#[tokio::test]
async fn keys_and_identities_are_the_ones_that_updates_use() {
    for major in [10, 18] {
        let server = Postgres::start(major).await;
        server.sql("postgres", SCHEMA).await;
        let session = session(&server).await;
        let tables = selected(&session, &Selection::default()).await.unwrap();
        let table = |schema: &str, name: &str| {
            tables.iter().find(|table| table.name == QualifiedName::new(schema, name)).unwrap()
        };
        assert_eq!(table("app", "orders").key, ["line", "id"]);
        assert_eq!(table("app", "Order").key, ["id"]);
        assert_eq!(table("app", "Order").identity, ReplicaIdentity::Index);
        assert!(table("Other.x", "t$1").key.is_empty(), "a deferrable key is no identity");
        assert!(!table("app", "cache").streamed);
        let note = &table("app", "orders").columns[2];
        assert_eq!(
            (note.formatted.as_str(), note.type_name.as_str(), note.not_null),
            ("character varying(20)", "varchar", true)
        );

        let plan = plan_own(&session, "w \"x", &tables, Without::Inserts).await.unwrap();
        assert_eq!(plan.names, ["w \"x", "w \"x_inserts"]);
        let keyless: Vec<&str> = plan.keyless.iter().map(|table| table.name.name.as_str()).collect();
        assert_eq!(keyless, ["t$1", "order_log"]);
        for sql in &plan.create {
            server.sql("postgres", sql).await;
        }
        let state = state(&session, &["w \"x", "w \"x_inserts"]).await.unwrap();
        let streamed = tables.iter().filter(|table| table.streamed).count();
        assert_eq!(state.tables.len(), streamed);
        // The application's own UPDATEs still work.
        server
            .sql("postgres", "INSERT INTO app.order_log VALUES (now()); UPDATE app.order_log SET at = now()")
            .await;
        server.sql("postgres", "INSERT INTO app.sales VALUES (1); UPDATE app.sales SET day = now()").await;
    }
}

#[tokio::test]
async fn publications_hold_what_the_server_streams() {
    for major in [10, 13, 15, 18] {
        let server = Postgres::start(major).await;
        server.sql("postgres", SCHEMA).await;
        server
            .sql(
                "postgres",
                "CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION ins FOR TABLE app.orders WITH (publish = 'insert')",
            )
            .await;
        let session = session(&server).await;
        let everything = state(&session, &["everything"]).await.unwrap();
        // What the server says, but for our own schema.
        let view = server
            .text(
                "postgres",
                "SELECT tablename FROM pg_publication_tables WHERE pubname = 'everything' AND schemaname <> 'walferry'
                 ORDER BY schemaname::text COLLATE \"C\", tablename::text COLLATE \"C\"",
            )
            .await;
        let view: Vec<&str> = view.iter().filter_map(|row| row[0].as_deref()).collect();
        assert_eq!(names(&everything), view, "{major}");
        let inserts = state(&session, &["ins"]).await.unwrap();
        assert!(inserts.tables[0].actions.insert && !inserts.tables[0].actions.update);
        let missing = state(&session, &["ins", "gone"]).await.unwrap_err();
        assert_eq!(missing.code(), "PUBLICATION_MISSING");
        assert!(missing.primary().contains("\"gone\""));

        if major >= 13 {
            server
                .sql(
                    "postgres",
                    "CREATE PUBLICATION root FOR TABLE app.sales WITH (publish_via_partition_root)",
                )
                .await;
            let root = state(&session, &["root"]).await.unwrap();
            assert_eq!(names(&root), ["sales"]);
            // The leaves of the other publication come under the root's name, too.
            let both = state(&session, &["everything", "root"]).await.unwrap();
            assert!(!names(&both).contains(&"sales_1") && names(&both).contains(&"sales"), "{major}");
            let specs = published(&session, &root.tables).await.unwrap();
            assert!(specs[0].root && specs[0].partitioned);
            let changes = root.changes_since(&state(&session, &["everything"]).await.unwrap());
            assert!(changes.joined[0].uncovered.is_empty(), "its rows were there as leaves");
        }
        if major >= 15 {
            server
                .sql(
                    "postgres",
                    "CREATE PUBLICATION f1 FOR TABLE app.orders (id, line) WHERE (id > 5);
                     CREATE PUBLICATION f2 FOR TABLE app.orders (line, id) WHERE (id < 0);
                     CREATE PUBLICATION whole FOR TABLE app.orders (id, line, note);
                     CREATE PUBLICATION schema FOR TABLES IN SCHEMA app",
                )
                .await;
            let filters = state(&session, &["f1", "f2"]).await.unwrap();
            let specs = published(&session, &filters.tables).await.unwrap();
            let columns: Vec<&str> = specs[0].columns.iter().map(|column| column.name.as_str()).collect();
            assert_eq!(columns, ["id", "line"]);
            let filter = specs[0].filter.clone().unwrap();
            let sql = format!("SELECT count(*) FROM {} WHERE {filter}", specs[0].from_clause());
            assert_eq!(server.value::<i64>("postgres", &sql).await, 0);
            let differ = state(&session, &["f1", "schema"]).await.unwrap_err();
            assert_eq!(differ.code(), "COLUMN_LISTS_DIFFER");
            // A list of all columns is no list.
            let all = state(&session, &["ins", "whole"]).await.unwrap();
            assert_eq!(all.tables[0].columns, None);
            assert_eq!(all.tables[0].filter, None);
        }
        if major >= 18 {
            server
                .sql(
                    "postgres",
                    "CREATE TABLE g (id int PRIMARY KEY, s int GENERATED ALWAYS AS (id + 1) STORED, v int GENERATED ALWAYS AS (id) VIRTUAL);
                     CREATE PUBLICATION with_generated FOR TABLE g WITH (publish_generated_columns = stored);
                     CREATE PUBLICATION without FOR TABLE g",
                )
                .await;
            for (publication, expected) in [("with_generated", &["id", "s"][..]), ("without", &["id"])] {
                let look = state(&session, &[publication]).await.unwrap();
                let specs = published(&session, &look.tables).await.unwrap();
                let columns: Vec<&str> = specs[0].columns.iter().map(|column| column.name.as_str()).collect();
                assert_eq!(columns, expected);
            }
        }
    }
}
