//! Column types as the catalogs of every kind of server say them.

use pg::{Params, Purpose, Session};
use pipeline::ReplicaIdentity;
use pipeline::envelope::{Kind, TableTypes};
use reader::catalog;

use crate::support::Postgres;

const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TYPE mood ADD VALUE 'bad' BEFORE 'sad';
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE >= 0);
    CREATE DOMAIN cheap AS price;
    CREATE TABLE t (b int, "A" int DEFAULT 5, d cheap NOT NULL, a numeric(4,1)[], v varchar(7) DEFAULT 'it''s', m mood, p pair, ms mood[],
        r int4range, n numeric DEFAULT random(), i2v int2vector, gone int, j jsonb[], s timestamp(3), PRIMARY KEY (v, b));
    ALTER TABLE t DROP COLUMN gone;
    CREATE TABLE by_index (a int NOT NULL UNIQUE, b int NOT NULL UNIQUE, c text);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_b_key;
    CREATE TABLE by_unique (a int UNIQUE, b text NOT NULL, c int NOT NULL);
    CREATE UNIQUE INDEX ON by_unique (c) WHERE c > 0; CREATE UNIQUE INDEX ON by_unique (lower(b)); CREATE UNIQUE INDEX ON by_unique (b);
    CREATE TABLE by_nothing (a int); ALTER TABLE by_nothing REPLICA IDENTITY FULL;
"#;

async fn described(server: &Postgres, table: &str) -> TableTypes {
    let oid: u32 = server.value("postgres", &format!("SELECT '{table}'::regclass::oid")).await;
    let params = Params::parse(&server.uri("postgres")).unwrap();
    let session = Session::connect(&params, Purpose::Query, "walferry").await.unwrap();
    let mut found = catalog::types(&session, &[oid, 1]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[tokio::test]
async fn domains_arrays_and_labels_are_resolved() {
    for major in [10, 13, 15, 18] {
        let server = Postgres::start(major).await;
        for statement in SCHEMA.split_inclusive(';') {
            server.sql("postgres", statement).await;
        }
        let table = described(&server, "t").await;
        assert_eq!(
            (&table.key[..], table.identity),
            (&["v".to_owned(), "b".to_owned()][..], ReplicaIdentity::Default)
        );
        let names: Vec<&str> = table.columns.iter().map(|column| &column.name[..]).collect();
        assert_eq!(names, ["b", "A", "d", "a", "v", "m", "p", "ms", "r", "n", "i2v", "j", "s"]);
        let base = |name: &str| {
            let column = table.column(name).unwrap();
            (&column.base_name[..], column.type_modifier, column.array, column.kind)
        };
        assert_eq!(base("d"), ("numeric", (10 << 16 | 2) + 4, false, Kind::Base));
        assert_eq!(base("a"), ("numeric", (4 << 16 | 1) + 4, true, Kind::Base));
        assert_eq!(base("m"), ("mood", -1, false, Kind::Enum));
        assert_eq!(base("ms"), ("mood", -1, true, Kind::Enum));
        assert_eq!(base("p"), ("pair", -1, false, Kind::Composite));
        assert_eq!(base("r"), ("int4range", -1, false, Kind::Range));
        assert_eq!(base("i2v"), ("int2vector", -1, false, Kind::Base));
        assert_eq!(base("j"), ("jsonb", -1, true, Kind::Base));
        assert_eq!(base("s"), ("timestamp", 3, false, Kind::Base));
        let (d, m) = (table.column("d").unwrap(), table.column("m").unwrap());
        assert_eq!((d.base_oid, d.type_oid > 16384, d.not_null), (1700, true, true));
        assert_eq!(m.labels, ["bad", "sad", "ok"]);
        let default = |name: &str| table.column(name).unwrap().default.as_deref();
        assert_eq!(
            (default("A"), default("v"), default("n"), default("b")),
            (Some("5"), Some("it's"), None, None)
        );
        for (name, key, identity) in [
            ("by_index", &["b"][..], ReplicaIdentity::Index),
            ("by_unique", &["b"][..], ReplicaIdentity::Default),
            ("by_nothing", &[][..], ReplicaIdentity::Full),
        ] {
            let table = described(&server, name).await;
            assert_eq!(
                (&table.key[..], table.identity),
                (&key.iter().map(|&k| k.to_owned()).collect::<Vec<_>>()[..], identity),
                "{name}"
            );
        }
    }
}
