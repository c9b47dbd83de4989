use std::time::Duration;

use super::*;

fn layers(flags: &[(&str, &str)], sets: &[&str], env: &[(&str, &str)], file: &str) -> Layers {
    let fields = fields();
    let mut layers = Layers::default();
    for (key, value) in flags {
        layers.assign(*key, vec![(*value).to_owned()], Origin::Flag("--flag"));
    }
    layers.add_sets(&sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>());
    layers.add_environment(&fields, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    if !file.is_empty() {
        let path = std::env::temp_dir().join(format!("walferry-{}-{}.toml", std::process::id(), hash(file)));
        std::fs::write(&path, file).unwrap();
        layers.add_file(&path);
        std::fs::remove_file(&path).unwrap();
    }
    layers.refuse_unknown(&fields);
    layers
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn read(layers: &Layers) -> pg::Result<Settings> {
    Settings::read(layers, Needs::Nothing)
}

fn origin(settings: &Settings, key: &str) -> String {
    settings.effective.iter().find(|e| e.key == key).unwrap().origin.to_string()
}

#[test]
fn the_strongest_layer_wins() {
    let file = "[copy]\njobs = 1\n[index]\njobs = 1\n[verify]\njobs = 1\nkeys = 3\n";
    let env = [("WALFERRY_COPY_JOBS", "2"), ("WALFERRY_INDEX_JOBS", "2"), ("WALFERRY_VERIFY_JOBS", "2")];
    let settings =
        read(&layers(&[("copy.jobs", "4")], &["index.jobs=3", "copy.jobs=9"], &env, file)).unwrap();
    assert_eq!(settings.copy.jobs.get(), 4);
    assert_eq!(settings.index.jobs.get(), 3);
    assert_eq!(settings.verify.jobs.get(), 2);
    assert_eq!(settings.verify.keys, 3);
    assert_eq!(settings.apply.batch_bytes, Size(16 << 20));
    assert_eq!(origin(&settings, "copy.jobs"), "--flag");
    assert_eq!(origin(&settings, "index.jobs"), "--set");
    assert_eq!(origin(&settings, "verify.jobs"), "environment WALFERRY_VERIFY_JOBS");
    assert!(origin(&settings, "verify.keys").starts_with("file "));
    assert_eq!(origin(&settings, "apply.batch_bytes"), "default");
}

#[test]
fn a_drop_past_no_limit_is_refused_on_whatever_layer_it_was_set() {
    let databases = [("source", "postgres://s/a"), ("target", "postgres://t/a")];
    let both = |sets: &[&str], env: &[(&str, &str)], file: &str| {
        Settings::read(&layers(&databases, sets, env, file), Needs::Both)
    };
    for refused in [
        both(&["limits.on_limit=drop"], &[], ""),
        both(&[], &[("WALFERRY_LIMITS_ON_LIMIT", "drop")], ""),
        both(&[], &[], "[limits]\non_limit = \"drop\"\n"),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.class(), pg::Class::Usage);
        assert!(error.primary().contains("--max-retained-wal"), "{error}");
    }
    both(&["limits.on_limit=drop", "limits.max_retained_wal=1GB"], &[], "").unwrap();
    both(&["limits.on_limit=warn"], &[], "").unwrap();
    // A run that was recorded so before, and commands that hold no slot.
    let mut recorded = layers(&databases, &[], &[], "");
    recorded.add_run(&fields(), &serde_json::json!({"limits.on_limit": "drop"}));
    Settings::read(&recorded, Needs::Both).unwrap();
    Settings::read(&layers(&databases, &["limits.on_limit=drop"], &[], ""), Needs::Target).unwrap();
}

#[test]
fn every_problem_is_named_at_once() {
    let error = read(&layers(
        &[("copy.jobs", "many")],
        &["copy.job=1", "nonsense"],
        &[
            ("WALFERRY_COPY_JOBZ", "1"),
            ("WALFERRY_SERVICE_HOST", "k8s"),
            ("WALFERRY_RETRY_BLOCKED_MAX", "soon"),
        ],
        "[apply]\nbatch_bytez = 1\n",
    ))
    .unwrap_err();
    assert_eq!(error.class(), pg::Class::Usage);
    let detail = error.detail_text().unwrap();
    for expected in [
        "--flag: expected a number from 1 to 256, or auto",
        "--set: expected KEY=VALUE",
        "--set: unknown key \"copy.job\" (did you mean \"copy.jobs\"?)",
        "environment: unknown variable \"WALFERRY_COPY_JOBZ\" (did you mean \"WALFERRY_COPY_JOBS\"?)",
        "environment WALFERRY_RETRY_BLOCKED_MAX: expected a duration",
        "unknown key \"apply.batch_bytez\" (did you mean \"apply.batch_bytes\"?)",
    ] {
        assert!(detail.contains(expected), "{expected}\nnot in\n{detail}");
    }
    assert_eq!(detail.lines().count(), 6, "{detail}");
}

#[test]
fn passwords_are_shown_nowhere() {
    let canary = "s3cr3t-c4nary";
    for text in [
        format!("postgres://app:{canary}@db.example:5433/app?sslmode=require"),
        format!("postgres://db.example/app?user=app&password={canary}"),
        format!("host=db.example user=app password={canary} dbname=app"),
    ] {
        let settings =
            read(&layers(&[("source", &text)], &[&format!("source_admin={text}")], &[], "")).unwrap();
        let shown = format!("{settings:?} {}", settings.to_record());
        assert!(!shown.contains(canary), "{shown}");
        assert!(shown.contains("db.example"), "{shown}");
        assert_eq!(settings.source().unwrap().user(), "app");
    }
    for broken in [
        format!("postgres://app:{canary}@db/app?nonsense=1"),
        format!("password='{canary}"),
        format!("passwort={canary}"),
    ] {
        let error = read(&layers(&[("source", &broken)], &[], &[], "")).unwrap_err();
        let shown = format!("{error:?} {error} {:?} {:?}", error.detail_text(), error.hint_text());
        assert!(!shown.contains(canary), "{shown}");
    }
    let error = read(&layers(&[], &[], &[], &format!("source = \"postgres://a:{canary}@db/x\nname='x'")));
    let error = error.unwrap_err();
    assert!(!format!("{error} {:?}", error.detail_text()).contains(canary));
}

#[test]
fn a_run_is_read_back_from_its_record() {
    let source = "postgres://app:pw@db.example/o'brien?application_name=my%20app&options=-c%20work_mem%3D1MB";
    let flags = [("source", source), ("run.publication", "\"a,b\",C"), ("retry.blocked_max", "1500ms")];
    let first = read(&layers(&flags, &[], &[], "")).unwrap();
    let record = first.to_record();
    assert!(record.get("apply.batch_bytes").is_none(), "defaults are not recorded: {record}");
    let mut layers = Layers::default();
    layers.assign("cutover.timeout", vec!["5s".to_owned()], Origin::Flag("--timeout"));
    layers.add_run(&fields(), &record);
    let again = read(&layers).unwrap();
    assert_eq!(again.run.publication, ["a,b", "C"]);
    assert_eq!(again.retry.blocked_max, Duration::from_millis(1500));
    let params = again.source().unwrap();
    assert_eq!(params.dbname(), "o'brien");
    assert_eq!(params.application_name(), Some("my app"));
    assert_eq!(origin(&again, "retry.blocked_max"), "run");
}

#[test]
fn values_are_written_as_they_are_read() {
    for (text, bytes) in [("64MB", 64 << 20), ("16 MiB", 16 << 20), ("1.5kB", 1536), ("100", 100)] {
        assert_eq!(Size::read(text), Ok(Size(bytes)));
        assert_eq!(Size::read(&Size(bytes).show()), Ok(Size(bytes)));
    }
    for (text, ms) in
        [("200ms", 200), ("10s", 10_000), ("5min", 300_000), ("60", 60_000), ("1.5h", 5_400_000)]
    {
        let duration = Duration::from_millis(ms);
        assert_eq!(Duration::read(text), Ok(duration));
        assert_eq!(Duration::read(&duration.show()), Ok(duration));
    }
    for wrong in ["", "MB", "-1MB", "1 potato", "99999999999TB"] {
        assert!(Size::read(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "ms", "-1s", "1 fortnight", "1e99"] {
        assert!(Duration::read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn values_outside_of_their_range_are_refused() {
    for (within, outside) in [
        ("log.verbosity=3", "log.verbosity=9"),
        ("kafka.linger=15min", "kafka.linger=1h"),
        ("kafka.retention=1s", "kafka.retention=0"),
        ("kafka.replication_factor=1", "kafka.replication_factor=0"),
        ("kafka.partitions=10000", "kafka.partitions=0"),
        ("kafka.message_bytes=1MB", "kafka.message_bytes=10"),
        ("kafka.retention_warning=100", "kafka.retention_warning=101"),
        ("retry.connection_max=100ms", "retry.connection_max=0"),
        ("retry.blocked_max=1s", "retry.blocked_max=0"),
    ] {
        assert!(read(&layers(&[], &[within], &[], "")).is_ok(), "{within}");
        let error = read(&layers(&[], &[outside], &[], "")).unwrap_err();
        let key = outside.split('=').next().unwrap();
        assert!(error.primary().starts_with(key), "{outside}: {error}");
    }
}

#[test]
fn an_empty_item_is_refused_where_no_items_mean_everything() {
    let refused = |layers: &Layers| {
        let error = read(layers).unwrap_err();
        assert_eq!(error.class(), pg::Class::Usage);
        assert!(error.primary().contains("expected a pattern or a name"), "{error}");
    };
    for text in ["", " ", ",", "a,,b", "a,"] {
        refused(&layers(&[("select.table", text)], &[], &[], ""));
        refused(&layers(&[], &[&format!("run.publication={text}")], &[], ""));
    }
    refused(&layers(&[], &[], &[("WALFERRY_SELECT_SCHEMA", ",")], ""));
    refused(&layers(&[], &[], &[], "[select]\ntable = \"\"\n"));
    refused(&layers(&[], &[], &[], "[select]\ntable = [\"a\", \"\"]\n"));
    // Where a list says that there is nothing, it is taken at its word.
    let nothing =
        layers(&[], &["outbox.messages="], &[("WALFERRY_SELECT_SCHEMA", "")], "[select]\ntable = []\n");
    let settings = read(&nothing).unwrap();
    assert!(settings.outbox.messages.is_empty() && settings.select.table.is_empty());
    // What is recorded of that is read back.
    let mut again = Layers::default();
    again.add_run(&fields(), &settings.to_record());
    assert!(read(&again).unwrap().outbox.messages.is_empty());
    refused(&layers(&[], &["outbox.messages=a,,b"], &[], ""));
}

#[test]
fn names_that_no_slot_can_have_are_refused() {
    for name in ["", "Upper", "a-b", &"x".repeat(64)] {
        assert!(read(&layers(&[("name", name)], &[], &[], "")).is_err(), "{name}");
    }
    assert!(read(&layers(&[("name", "Upper"), ("run.slot", "lower")], &[], &[], "")).is_ok());
}

#[test]
fn every_default_is_valid_and_every_key_documented() {
    assert!(read(&Layers::default()).is_ok());
    for field in fields() {
        let last = field.doc.iter().find(|line| line.trim().starts_with("Default:"));
        assert!(last.is_some(), "{} gives no reason for its default", field.key);
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == reference(),
        "docs/configuration.md is old: cargo run -- config reference > docs/configuration.md"
    );
}

#[path = "../../fuzz/src/hostile/configuration.rs"]
mod hostile;

/// What the fuzzer has found once (`scripts/fuzz`).
#[test]
fn files_that_were_made_up_are_read_or_refused() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        eprintln!("{}", file.display());
        hostile::config(&std::fs::read(&file).unwrap());
    }
}
