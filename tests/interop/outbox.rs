//! `outbox run` beside Debezium's event router, with the same files and Kafka Connect's schemas in every message.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::walferry::Running;
use crate::support::{Connect, Kafka, Postgres, Walferry, scratch};

use super::{PATIENCE, records};

/// Topic, key and value.
type Event = (String, String, String);

/// By id.
type Events = BTreeMap<String, Event>;

/// What Debezium's router ends its connector with, here passed over by `errors.tolerance`.
const LOST: [&str; 7] =
    ["big", ROOT_ARRAY, "root_array", "root_objects", "united_null", "united_numbers", "united_types"];
const ROOT_ARRAY: &str = "406c07f3-26f0-4eea-a50c-109940064b92";
/// In an envelope, a field without a schema as well.
const LOST_IN_ENVELOPE: &str = "root_empty";

/// Objects of one array that differ: in which order Debezium's struct has their fields is chance.
const UNITED: [&str; 3] = ["406c07f3-26f0-4eea-a50c-109940064b8f", "raw_order", "united"];

/// Numbers that Java writes in its own form.
const DIGITS: &str = "raw_numbers";

/// One of Debezium's structs, by chance, has lost what only the other one had.
const HALVED: &str = "united_structs";

/// A router, and what its file says besides the connection.
struct Router {
    name: &'static str,
    tables: &'static str,
    /// Of the transform.
    options: &'static [(&'static str, &'static str)],
    connector: &'static [(&'static str, &'static str)],
}

const EXPAND: (&str, &str) = ("table.expand.json.payload", "true");
const ENVELOPE: &[(&str, &str)] = &[
    EXPAND,
    ("table.json.payload.null.behavior", "optional_bytes"),
    (
        "table.fields.additional.placement",
        "type:envelope:eventType,aggregateid:envelope,ts:envelope,trace:header",
    ),
];

const ROUTERS: [Router; 7] = [
    Router {
        name: "plain",
        tables: "public.outbox,public.edges,public.raw",
        options: &[],
        // Kafka Connect's defaults: JSON, with schemas.
        connector: &[],
    },
    Router {
        name: "expand",
        tables: "public.outbox,public.edges,public.raw",
        options: &[
            EXPAND,
            ("route.tombstone.on.empty.payload", "true"),
            ("table.fields.additional.placement", "type:header:eventType"),
        ],
        connector: &[
            ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
            ("key.converter.schemas.enable", "false"),
        ],
    },
    Router { name: "envelope", tables: "public.outbox", options: ENVELOPE, connector: STRINGS },
    Router { name: "edges", tables: "public.edges", options: ENVELOPE, connector: STRINGS },
    Router {
        name: "halves",
        tables: "public.edges",
        options: &[],
        connector: &[
            ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
            ("value.converter.schemas.enable", "false"),
        ],
    },
    Router {
        name: "typed",
        tables: "public.typed",
        options: &[
            ("table.field.event.schema.version", "version"),
            (
                "table.fields.additional.placement",
                "flag:envelope,i2:envelope,i8:envelope,f8:envelope,n:envelope:m.n,nv:envelope,d:envelope,t:envelope,ts:envelope,\
                 tz:envelope,m:envelope,j:envelope,ai:envelope,c:envelope,s:envelope",
            ),
        ],
        connector: &[],
    },
    Router { name: "bytes", tables: "public.typed", options: &[], connector: &[] },
];

/// Keys that are text have no schema, whatever is said about it.
const STRINGS: &[(&str, &str)] = &[
    ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
    ("key.converter.schemas.enable", "true"),
];

struct Rig {
    server: Postgres,
    kafka: &'static Kafka,
    connect: &'static Connect,
    folder: std::path::PathBuf,
}

impl Rig {
    async fn new() -> Rig {
        let server = Postgres::builder(15).database("app").start().await;
        server.sql("app", include_str!("outbox.sql")).await;
        let (kafka, connect) = (Kafka::shared().await, Connect::shared().await);
        Rig { server, kafka, connect, folder: scratch::folder("router") }
    }

    fn config(&self, prefix: &str, router: &Router) -> Value {
        let mut config = Connect::source(&self.server, "app", prefix);
        let replacement = format!("{prefix}.${{routedByValue}}");
        for (name, value) in [
            ("publication.autocreate.mode", "filtered"),
            ("snapshot.mode", "no_data"),
            ("skipped.operations", "t"),
            ("table.include.list", router.tables),
            ("transforms", "outbox"),
            ("transforms.outbox.type", "io.debezium.transforms.outbox.EventRouter"),
            ("transforms.outbox.route.topic.replacement", &replacement),
        ] {
            config[name] = json!(value);
        }
        for (name, value) in router.options {
            config[format!("transforms.outbox.{name}")] = json!(value);
        }
        for (name, value) in router.connector {
            config[*name] = json!(value);
        }
        config
    }

    async fn debezium(&self, prefix: &str, router: &Router) {
        let mut config = self.config(prefix, router);
        config["errors.tolerance"] = json!("all");
        self.connect.run(prefix, &config).await;
    }

    async fn walferry(&self, prefix: &str, router: &Router) -> Running {
        let file = self.folder.join(format!("{prefix}.json"));
        let config = json!({"name": prefix, "config": self.config(prefix, router)});
        std::fs::write(&file, config.to_string()).unwrap();
        let file = file.display().to_string();
        let run = Walferry::new("", "").name(prefix).command("outbox").args(&["run", "--connector", &file]);
        let mut running = run.args(&["--brokers", &self.kafka.brokers()]).spawn();
        running.wait_for_stderr("live").await;
        running
    }

    /// Until all have brought everything that is committed: one event more, in each of the tables.
    async fn delivered(&self, prefix: &str) {
        for (table, columns) in [
            ("outbox", "(id, aggregatetype, aggregateid, type) VALUES (gen_random_uuid(), 'Last', '', '')"),
            ("edges", "(id, aggregatetype) VALUES ('last', 'Last')"),
            ("raw", "(id, aggregatetype) VALUES ('last', 'Last')"),
            ("typed", "(id, aggregatetype) VALUES (99, 'Last')"),
        ] {
            self.server.sql("app", &format!("INSERT INTO {table} {columns}")).await;
        }
        for router in &ROUTERS {
            let count = router.tables.split(',').count();
            for whose in ["", "_w"] {
                records(self.kafka, &format!("{prefix}_{}{whose}.Last", router.name), count).await;
            }
        }
    }

    /// Topics of this prefix, which is called `srv` in them.
    fn events(&self, prefix: &str) -> Events {
        let mut events = Events::new();
        for (topic, _) in self.kafka.topics(&format!("{prefix}.")) {
            let Some(name) = topic.strip_prefix(&format!("{prefix}.")) else { continue };
            if name == "Last" {
                continue;
            }
            for record in self.kafka.records(&topic) {
                let text = |bytes: &Option<Vec<u8>>| {
                    bytes.as_ref().map_or("-".to_owned(), |bytes| {
                        std::str::from_utf8(bytes).unwrap().replace(&format!("\"{prefix}."), "\"srv.")
                    })
                };
                let id = record.header("id").expect("an id");
                events.insert(id, (name.to_owned(), text(&record.key), text(&record.value)));
            }
        }
        events
    }
}

/// Makes of Debezium's events what ours must be.
fn ours_of(router: &Router, mut theirs: Events) -> Events {
    for (id, (topic, _, value)) in &mut theirs {
        match router.name {
            // The schema is named by the event's own route value, and not by that of the first event that had such a payload.
            "envelope" if topic == "Customer" => {
                *value = value.replace("srv.public.outbox.Order.Value", "srv.public.outbox.Customer.Value");
            }
            // NULL is NULL where the column has a default.
            "envelope" if id.ends_with("99") => {
                let default = "\"ts\":1704164645678901}}";
                assert!(value.ends_with(default), "{value}");
                *value = value.replace(default, "\"ts\":null}}");
            }
            // White space before it makes JSON no text.
            "expand" if id == "raw_space" => {
                assert!(value.ends_with(r#""payload":" {\"a\": 1}"}"#), "{value}");
                *value = concat!(
                    r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":true,"field":"a"}],"optional":true,"name":"payload"},"#,
                    r#""payload":{"a":1}}"#
                )
                .to_owned();
            }
            _ => {}
        }
    }
    theirs
}

/// JSON in which the fields of structs are in one order.
fn sorted(text: &str) -> Value {
    fn sort(value: &mut Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::Array(fields)) = members.get_mut("fields") {
                    fields.sort_by_key(|field| field["field"].to_string());
                }
                members.values_mut().for_each(sort);
            }
            Value::Array(elements) => elements.iter_mut().for_each(sort),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap();
    sort(&mut value);
    value
}

fn assert_same(router: &Router, mut ours: Events, theirs: &Events) {
    let name = router.name;
    assert!(theirs.len() >= 2, "{name}: {theirs:?}");
    for (id, their) in theirs {
        let our = ours.remove(id).unwrap_or_else(|| panic!("{name}: {id} is not there"));
        if id == HALVED && their.2.contains("payload.a.o") {
            let field = |event: &Event, name: &str| event.2.contains(&format!("\"field\":\"{name}\""));
            assert!(field(&our, "x") && field(&our, "y"), "{name}: {our:?}");
            assert!(!(field(their, "x") && field(their, "y")), "{name}: {their:?}");
        } else if UNITED.contains(&&**id) || id == DIGITS {
            assert_eq!(
                (&our.0, &our.1, sorted(&our.2)),
                (&their.0, &their.1, sorted(&their.2)),
                "{name}: {id}"
            );
        } else {
            assert_eq!(&our, their, "{name}: {id}");
        }
    }
    let lost = |id: &&str| match name {
        "expand" => true,
        "envelope" => *id == ROOT_ARRAY,
        "edges" => *id != ROOT_ARRAY,
        _ => false,
    };
    let mut expected: Vec<&str> = LOST.into_iter().filter(lost).collect();
    if name == "edges" {
        expected.push(LOST_IN_ENVELOPE);
    }
    let mut lost: Vec<&str> = ours.keys().map(String::as_str).collect();
    expected.sort_unstable();
    lost.sort_unstable();
    assert_eq!(lost, expected, "{name}: what Debezium has not got");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_with_schemas_are_those_of_debezium_s_router() {
    let rig = Rig::new().await;
    let prefix = Kafka::prefix();
    let mut running = Vec::new();
    for router in &ROUTERS {
        let theirs = format!("{prefix}_{}", router.name);
        rig.debezium(&theirs, router).await;
        running.push(rig.walferry(&format!("{theirs}_w"), router).await);
    }
    let slots = format!(
        "SELECT count(*) = {} FROM pg_replication_slots WHERE slot_name ~ '^dbz_' AND active",
        2 * ROUTERS.len()
    );
    rig.server.wait_until("app", &slots, PATIENCE).await;
    // Kafka has no topic of that name.
    for statement in include_str!("../golden/ob.sql").replace("Weird type!", "Weird").lines() {
        rig.server.sql("app", statement).await;
    }
    rig.server.sql("app", include_str!("outbox_stream.sql")).await;
    rig.delivered(&prefix).await;
    for router in &ROUTERS {
        let theirs = format!("{prefix}_{}", router.name);
        let ours = rig.events(&format!("{theirs}_w"));
        let theirs = ours_of(router, rig.events(&theirs));
        assert_same(router, ours, &theirs);
    }
    for running in running {
        running.sigterm();
        running.wait_exit().await.expect_code(143);
    }
    for router in &ROUTERS {
        rig.connect.remove(&format!("{prefix}_{}", router.name)).await;
    }
    scratch::remove(&rig.folder);
}
