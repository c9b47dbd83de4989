use std::collections::HashSet;

use super::*;
use crate::config::{Layers, Needs, Settings, fields};

const NO_VARIABLES: &dyn Fn(&str) -> Option<String> = &|_| None;

fn parse(text: &str) -> Properties {
    Properties::parse("c", text.as_bytes(), NO_VARIABLES).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn key<'a>(applied: &'a apply::Applied, key: &str) -> Option<&'a str> {
    applied.assigned.iter().find(|(known, _)| *known == key).map(|(_, text)| text.as_str())
}

#[test]
fn json_and_properties_say_the_same() {
    let rest = r#"{"name": "gold", "config": {"slot.name": "s1", "tasks.max": 1, "slot.failover": true, "topic.prefix": "srv"}, "tasks": []}"#;
    let bare = r#"{"name": "gold", "slot.name": "s1", "tasks.max": "1", "slot.failover": "true", "topic.prefix": "srv"}"#;
    let properties = "name=gold\nslot.name=s1\ntasks.max=1\nslot.failover=true\ntopic.prefix=srv\n";
    let expected = [
        ("name", "gold"),
        ("slot.name", "s1"),
        ("tasks.max", "1"),
        ("slot.failover", "true"),
        ("topic.prefix", "srv"),
    ];
    for text in [rest, bare, properties] {
        assert_eq!(parse(text).iter().collect::<Vec<_>>(), expected, "{text}");
    }
    for (text, expected) in [
        ("{\"a\": [1]}", "\"a\": expected a text, a number or a boolean"),
        ("{\"a\": {}}", "\"a\": expected a text, a number or a boolean"),
        ("{\"password\": \"se", "line 1, column"),
    ] {
        let problems = Properties::parse("c.json", text.as_bytes(), NO_VARIABLES).err().unwrap();
        assert!(problems[0].starts_with("c.json: ") && problems[0].contains(expected), "{problems:?}");
    }
}

#[test]
fn every_property_is_honoured_or_named() {
    let properties = parse(
        "connector.class=io.debezium.connector.postgresql.PostgresConnector\ndatabase.hostname=db.example\n\
         database.user=o'brien\ndatabase.password=se\\\\cret\ndatabase.dbname=app\ntopic.prefix=srv\nslot.name=s1\n\
         value.converter.schemas.enable=false\ndecimal.handling.mode=String\ntombstones.on.delete=false\ntasks.max=1\n\
         offset.storage.file.filename=/tmp/o\n",
    );
    let applied = apply(&properties, &[SOURCE]);
    assert_eq!(applied.problems, Vec::<String>::new());
    assert_eq!(
        key(&applied, "source"),
        Some(r"host='db.example' user='o\'brien' password='se\\cret' dbname='app'")
    );
    for (ours, text) in [
        ("kafka.prefix", "srv"),
        ("run.slot", "s1"),
        ("kafka.values", "debezium"),
        ("kafka.schemas", "off"),
        ("kafka.tombstones", "off"),
        ("decimal.handling.mode", "string"),
        // What the file leaves out is Debezium's default.
        ("run.publication", "dbz_publication"),
        ("binary.handling.mode", "bytes"),
    ] {
        assert_eq!(key(&applied, ours), Some(text), "{ours}");
    }
    let unused: Vec<&str> = applied.not_applicable.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(unused, ["tasks.max", "offset.storage.file.filename"]);
}

/// The connection would refuse it, whose message knows no property.
#[test]
fn the_password_of_a_key_is_refused_by_its_property() {
    let applied = apply(&parse("database.hostname=db\ndatabase.sslpassword=c4nary\n"), &[SOURCE]);
    let [problem] = applied.problems.as_slice() else { panic!("{:?}", applied.problems) };
    assert!(
        problem.starts_with("c: \"database.sslpassword\": refused: a key that is encrypted"),
        "{problem}"
    );
    assert!(!problem.contains("c4nary"), "{problem}");
    assert_eq!(key(&applied, "source"), Some("host='db'"));
}

#[test]
fn what_cannot_be_given_is_refused_by_name() {
    let properties = parse(
        "column.mask.with.12.chars=public.t.secret\ntransforms=route\ntransforms.route.type=x.ByLogicalTableRouter\n\
         value.converter=io.confluent.connect.avro.AvroConverter\nslot.nam=x\nsnapshot.max.threads=1\n\
         key.converter.schemas.enable=true\nvalue.converter.schemas.enable=false\ntombstones.on.delete=perhaps\n",
    );
    let problems = apply(&properties, &[SOURCE]).problems.join("\n");
    for expected in [
        "c: \"column.mask.with.12.chars\": refused: walferry sends every value as it is",
        "c: \"transforms.route.type\": expected io.debezium.transforms.ByLogicalTableRouter",
        "c: \"value.converter\": expected org.apache.kafka.connect.json.JsonConverter",
        "c: \"slot.nam\": unknown property (did you mean \"slot.name\"?)",
        "c: \"value.converter.schemas.enable\": says something else than \"key.converter.schemas.enable\"",
        "c: \"tombstones.on.delete\": expected true or false",
    ] {
        assert!(problems.contains(expected), "{expected}\nnot in\n{problems}");
    }
    assert_eq!(problems.lines().count(), 6, "{problems}");
    assert!(!problems.contains("public.t.secret") && !problems.contains("perhaps"), "{problems}");
}

#[test]
fn a_chain_of_transforms_is_read_in_its_order() {
    let properties = parse(
        "transforms=b, a\ntransforms.a.x=1\ntransforms.b.type=B\ntransforms.a.type=A\ntransforms.b.table.op=w\n",
    );
    assert_eq!(properties.get("transforms"), Some("b, a"));
    let transforms = properties.transforms();
    let seen: Vec<(&str, &str)> = transforms.map(|transform| (transform.alias, transform.class)).collect();
    assert_eq!(seen, [("b", "B"), ("a", "A")]);
}

#[test]
fn a_transform_without_what_it_needs_is_refused() {
    let router = "transforms=r\ntransforms.r.type=io.debezium.transforms.ByLogicalTableRouter\n";
    for (file, missing) in [
        ("transforms=r\n", "transforms.r.type"),
        (router, "transforms.r.topic.regex"),
        (&format!("{router}transforms.r.topic.regex=(.*)\n"), "transforms.r.topic.replacement"),
    ] {
        let problems = apply(&parse(file), &[SOURCE]).problems.join("\n");
        assert!(problems.contains(missing), "{missing} not in {problems}");
    }
    let whole = format!("{router}transforms.r.topic.regex=(.*)\ntransforms.r.topic.replacement=$1\n");
    assert_eq!(apply(&parse(&whole), &[SOURCE]).problems, Vec::<String>::new());
}

#[test]
fn debeziums_names_do_as_well_as_ours() {
    let mut layers = Layers::default();
    layers.add_sets(
        &["slot.name=s2", "decimal.handling.mode=double", "tasks.max=3", "topic.prefix=p", "slot.wait=5s"]
            .map(str::to_owned),
    );
    layers.translate(&fields(), &[SOURCE]);
    layers.refuse_unknown(&fields());
    assert_eq!(layers.notes.len(), 1, "{:?}", layers.notes);
    let settings = Settings::read(&layers, Needs::Nothing).unwrap();
    assert_eq!(settings.slot_name(), "s2");
    assert_eq!(settings.kafka_prefix(), "p");
    assert_eq!(settings.slot.wait.as_secs(), 5);
    let mut layers = Layers::default();
    layers.add_sets(&["database.hostname=x".to_owned(), "column.mask.hash.x=x".to_owned()]);
    layers.translate(&fields(), &[SOURCE]);
    layers.refuse_unknown(&fields());
    assert_eq!(layers.problems.len(), 2, "{:?}", layers.problems);
}

#[test]
fn a_table_sets_only_keys_that_there_are_and_names_each_once() {
    let keys = fields();
    let mut names = HashSet::new();
    for property in SOURCE.iter().chain(CLIENT) {
        assert!(names.insert(property.name), "{} twice", property.name);
        assert!(!property.note.ends_with('.'), "{}", property.name);
        if let Verdict::Sets { key, read, default } = &property.verdict {
            assert!(keys.iter().any(|field| field.key == *key), "{key}");
            assert!(default.is_none_or(|default| read(default).is_ok()), "{}", property.name);
        } else {
            let explained = !property.note.is_empty() || matches!(property.verdict, Verdict::Connects(_));
            assert!(explained, "{} says no reason", property.name);
        }
    }
}

#[test]
fn schemas_of_keys_and_values_are_two_settings_of_a_router() {
    let router = "transforms=o\ntransforms.o.type=io.debezium.transforms.outbox.EventRouter\n";
    let schemas = |connector: &str, worker: &str| {
        let mut properties = parse(&format!("{router}{connector}"));
        properties.and_then(parse(worker));
        let applied = apply(&properties, &[OUTBOX, SOURCE]);
        assert_eq!(applied.problems, Vec::<String>::new());
        assert_eq!(key(&applied, "kafka.schemas"), None);
        ["outbox.key_schemas", "outbox.value_schemas"].map(|name| key(&applied, name).unwrap() == "on")
    };
    // Kafka Connect's default.
    assert_eq!(schemas("", ""), [true, true]);
    assert_eq!(schemas("key.converter.schemas.enable=false\n", ""), [false, true]);
    assert_eq!(schemas("value.converter.schemas.enable=False\n", ""), [true, false]);
    assert_eq!(schemas("converter.schemas.enable=false\n", ""), [false, false]);
    // The worker's count, but for a converter that the connector names.
    let worker = "key.converter.schemas.enable=false\nvalue.converter.schemas.enable=false\n";
    assert_eq!(schemas("", worker), [false, false]);
    let named = "value.converter=org.apache.kafka.connect.json.JsonConverter\n";
    assert_eq!(schemas(named, worker), [false, true]);
}

#[test]
fn the_table_of_the_outbox_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/outbox.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page.ends_with(&super::page(super::OUTBOX)),
        "docs/outbox.md is old: its end is cargo run -- config properties --outbox"
    );
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/debezium.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let ends = text.trim_end().ends_with(format!("{}\n{}", page(SOURCE), page(CLIENT)).trim_end());
    assert!(ends, "docs/debezium.md is old: its end is what walferry config properties prints");
}

#[test]
fn a_client_s_property_counts_by_its_prefix() {
    let connector =
        parse("bootstrap.servers=c\nproducer.override.bootstrap.servers=o\nsecurity.protocol=ssl\n");
    let mut both = connector.clone();
    both.and_then(parse("security.protocol=PLAINTEXT\nproducer.bootstrap.servers=p\nproducer.acks=1\n"));
    for (properties, protocol) in [(connector, "SSL"), (both, "SSL")] {
        let applied = apply(&properties, &[SOURCE]);
        assert_eq!(applied.problems, Vec::<String>::new());
        assert_eq!(key(&applied, "kafka.brokers"), Some("o"));
        assert_eq!(key(&applied, "kafka.security_protocol"), Some(protocol));
    }
}

#[test]
fn a_writer_takes_prefix_and_modes_from_a_whole_file() {
    for text in [
        include_str!("../../tests/golden/default.properties"),
        include_str!("../../tests/golden/strings.properties"),
    ] {
        let text = format!("{text}table.include.list=public.a\nsnapshot.mode=no_data\n");
        let applied = apply(&parse(&text), &[WRITER, SOURCE]);
        assert_eq!(applied.problems, Vec::<String>::new());
        assert_eq!(key(&applied, "kafka.prefix"), Some("srv"));
        assert_eq!(key(&applied, "source"), None, "the writer reaches no source");
        for of_the_reader in ["kafka.transactions", "capture.snapshot", "run.slot"] {
            assert_eq!(key(&applied, of_the_reader), None, "{of_the_reader}");
        }
        let string = text.contains("decimal.handling.mode=string");
        assert_eq!(key(&applied, "decimal.handling.mode"), Some(if string { "string" } else { "precise" }));
    }
}
