//! What scripts rest on: exit codes, and messages that say what is wrong without saying what is secret. No server is needed.

use crate::support::Walferry;
use crate::support::walferry::Output;

/// Stands for every secret.
const CANARY: &str = "s3cr3t-c4nary";

/// A port that nobody listens on.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

fn walferry() -> Walferry {
    Walferry::new(NOWHERE, NOWHERE)
}

async fn run(arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    walferry().command(command).args(rest).run().await
}

#[tokio::test]
async fn bad_usage_ends_with_2() {
    for arguments in [
        &["nonsense"][..],
        &["read"],
        &["outbox", "init", "--layout", "nonsense"],
        &["migrate", "--nonsense"],
        &["migrate", "--via", "kafka"],
        &["migrate", "--brokers", "b:9092"],
        &["migrate", "--cutover", "sometime"],
        &["migrate", "--keyless", "please"],
        &["migrate", "--jobs", "none"],
        &["migrate", "--max-retained-wal", "lots"],
        &["migrate", "--on-limit", "drop"],
        &["write", "--brokers", "b:9092", "--set", "limits.on_limit=drop"],
        &["replicate", "--cutover", "auto"],
        &["check", "--set", "copy.jobz=1"],
        &["check", "--set", "nonsense"],
        &["check", "--config", "/nonexistent/walferry.toml"],
        &["status", "--wait", "soon"],
        &["status", "--wait", "live", "--timeout", "eventually"],
        &["skip"],
        &["skip", "not-an-lsn"],
        &["cutover", "--verify", "a-bit"],
        &["status", "--source", "host=db nonsense=1"],
        &["status", "--name", "Not-A-Slot"],
    ] {
        let output = run(arguments).await;
        assert_eq!(output.code, 2, "{arguments:?}: {output:#?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:#?}");
        assert!(output.stderr.contains("error: "), "{arguments:?}: {output:#?}");
    }
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    let help = run(&["--help"]).await.expect_code(0);
    for command in [
        "check",
        "migrate",
        "replicate",
        "copy",
        "status",
        "cutover",
        "refresh",
        "skip",
        "verify",
        "clean",
        "config",
    ] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is not in\n{}", help.stdout);
        let own = run(&[command, "--help"]).await.expect_code(0);
        assert!(own.stdout.contains("--target"), "{}", own.stdout);
    }
    let version = run(&["--version"]).await.expect_code(0);
    assert!(version.stdout.starts_with("walferry "), "{}", version.stdout);
}

#[tokio::test]
async fn a_command_without_its_databases_names_both() {
    let output = Walferry::new("", "").command("migrate").run().await.expect_code(2);
    assert!(output.stderr.contains("no source: give --source"), "{}", output.stderr);
    assert!(output.stderr.contains("no target: give --target"), "{}", output.stderr);
}

#[tokio::test]
async fn every_problem_of_every_layer_is_named_at_once() {
    let output = walferry()
        .command("check")
        .args(&["--set", "copy.jobz=1", "--set", "retry.blocked_max=soon", "--jobs", "0"])
        .env("WALFERRY_COPY_CHUNK_BYTES_MIM", "1MB")
        .run()
        .await
        .expect_code(2);
    for part in [
        "unknown key \"copy.jobz\" (did you mean \"copy.jobs\"?)",
        "retry.blocked_max: expected a duration",
        "--jobs: expected a number",
        "WALFERRY_COPY_CHUNK_BYTES_MIM",
    ] {
        assert!(output.stderr.contains(part), "{part:?} is not in\n{}", output.stderr);
    }
}

#[tokio::test]
async fn errors_are_objects_when_asked_for() {
    let output = run(&["status", "--log-format", "json"]).await.expect_code(3);
    let last = output.stderr.lines().last().unwrap();
    let error: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["code"], "CONNECTION", "{error}");
    assert_eq!(error["level"], "ERROR", "{error}");
    assert!(error["message"].as_str().unwrap().starts_with("target: "), "{error}");
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_3() {
    run(&["status"]).await.expect_code(3);
    run(&["status", "--wait", "live", "--timeout", "1s"]).await.expect_code(3);
}

#[tokio::test]
async fn check_ends_with_3_when_nobody_answered() {
    let kafka = ["--set", "kafka.brokers=127.0.0.1:1"];
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["check", "--grants"],
        &["check", "--outbox", kafka[0], kafka[1]],
        &["check", "--outbox", "--json", kafka[0], kafka[1]],
        &["check", "--outbox", "--grants"],
    ] {
        let output = run(arguments).await.expect_code(3);
        assert!(output.said().contains("CONNECTION"), "{arguments:?}: {output:#?}");
        assert!(!output.said().contains("would be refused"), "{arguments:?}: {output:#?}");
    }
}

#[tokio::test]
async fn check_of_the_outbox_says_nothing_of_a_target() {
    let output = run(&["check", "--outbox", "--set", "kafka.brokers=127.0.0.1:1", "--target", NOWHERE]).await;
    assert!(output.stdout.contains("source nobody@127.0.0.1:1/nothing"), "{output:#?}");
    assert!(!output.stdout.contains("\ntarget "), "{output:#?}");
}

#[tokio::test]
async fn check_takes_what_migrate_and_replicate_take() {
    run(&["check", "--protect", "--cutover", "auto", "--http", "9187", "--resync", "a.b"])
        .await
        .expect_code(3);
}

/// A script's variable that is not set must not become "everything".
#[tokio::test]
async fn an_empty_pattern_is_no_pattern() {
    for arguments in [
        &["copy", "--table", ""][..],
        &["copy", "--schema", " "],
        &["migrate", "--exclude-table", ""],
        &["migrate", "--exclude-schema", "a,"],
        &["migrate", "--table", "a", "--table", ""],
        &["migrate", "--publication", ""],
        &["refresh", "--publication", ""],
        &["verify", "--table", ","],
        &["copy", "--set", "select.table="],
    ] {
        let output = run(arguments).await.expect_code(2);
        assert!(output.stderr.contains(": expected a pattern or a name"), "{arguments:?}: {output:#?}");
    }
    let variable = |value| walferry().command("copy").env("WALFERRY_SELECT_TABLE", value);
    let output = variable(",").run().await.expect_code(2);
    assert!(output.stderr.contains("environment WALFERRY_SELECT_TABLE: expected a pattern"), "{output:#?}");
    // An empty variable is one that is not set: the copy fails for want of a server.
    variable("").run().await.expect_code(1);
}

#[tokio::test]
async fn errors_of_configuration_have_the_form_that_any_layer_asks_for() {
    let wrong = || walferry().command("config").args(&["show", "--jobs", "none"]);
    let bad_usage = || walferry().command("migrate").arg("--nonsense");
    for (what, command) in [
        ("--log-format", wrong().args(&["--log-format", "json"])),
        ("--set", wrong().args(&["--set", "log.format=json"])),
        ("environment", wrong().env("WALFERRY_LOG_FORMAT", "json")),
        ("--log-format, usage", bad_usage().args(&["--log-format=json"])),
        ("--set, usage", bad_usage().args(&["--set", "log.format=json"])),
        ("environment, usage", bad_usage().env("WALFERRY_LOG_FORMAT", "json")),
    ] {
        let output = command.run().await.expect_code(2);
        let error: serde_json::Value = serde_json::from_str(&output.stderr).unwrap_or_default();
        assert_eq!(
            (&error["code"], &error["level"]),
            (&"USAGE".into(), &"ERROR".into()),
            "{what}: {output:#?}"
        );
        assert!(!error["message"].as_str().unwrap_or("error: ").starts_with("error"), "{what}: {output:#?}");
    }
    let strongest = wrong().args(&["--log-format", "text"]).env("WALFERRY_LOG_FORMAT", "json");
    assert!(strongest.run().await.expect_code(2).stderr.starts_with("error: "));
}

#[tokio::test]
async fn an_empty_variable_names_no_file() {
    walferry().command("config").arg("show").env("WALFERRY_CONFIG", "").run().await.expect_code(0);
}

#[tokio::test]
async fn variables_that_look_like_ours_are_warned_of() {
    let said =
        |output: &Output| output.stderr.contains("warning: environment: unknown variable \"WALFERRY_TARGT\"");
    let show = walferry().command("config").arg("show").env("WALFERRY_TARGT", "x");
    let output = show.run().await.expect_code(0);
    assert!(said(&output) && output.stderr.contains("did you mean \"WALFERRY_TARGET\""), "{output:#?}");
    // Where it matters most the command ends for want of the right one.
    let output =
        Walferry::new("", "").command("status").env("WALFERRY_TARGT", "x").run().await.expect_code(2);
    assert!(said(&output) && output.stderr.contains("no target"), "{output:#?}");
    let others = walferry().command("config").arg("show").env("WALFERRY_SERVICE_HOST", "10.0.0.1");
    let output = others.env("WALFERRY_PORT", "tcp://10.0.0.1:80").env("WALFERRY_KAFKA", "/opt").run().await;
    assert!(output.code == 0 && output.stderr.is_empty(), "{output:#?}");
}

#[tokio::test]
async fn what_explains_the_configuration_works_with_one_that_is_wrong() {
    for what in [&["reference"][..], &["properties"], &["properties", "--outbox"]] {
        let output = walferry().command("config").args(what).env("WALFERRY_COPY_JOBS", "x").run().await;
        assert!(output.code == 0 && !output.stdout.is_empty(), "{what:?}: {output:#?}");
    }
}

#[tokio::test]
async fn an_option_that_sets_several_keys_is_wrong_once() {
    let output = run(&["migrate", "--jobs", "0"]).await.expect_code(2);
    assert_eq!(output.stderr.matches("--jobs").count(), 1, "{output:#?}");
    assert!(output.stderr.starts_with("error: --jobs: expected a number"), "{output:#?}");
}

#[tokio::test]
async fn options_of_kafka_need_kafka() {
    for option in [
        &["--prefix", "p"][..],
        &["--partitions", "3"],
        &["--values", "debezium"],
        &["--schemas"],
        &["--no-tombstones"],
    ] {
        let output = walferry().command("migrate").args(option).run().await.expect_code(2);
        let expected = format!("only with --via kafka: {}", option[0]);
        assert!(output.stderr.contains(&expected), "{option:?}: {output:#?}");
    }
}

#[tokio::test]
async fn before_a_run_has_begun_it_is_said_how_often_it_is_tried() {
    let output = run(&["migrate"]).await.expect_code(1);
    assert!(output.stderr.contains("tried 3 more times, then given up"), "{output:#?}");
    assert!(!output.stderr.contains("goes on by itself"), "{output:#?}");
}

#[tokio::test]
async fn config_show_says_where_values_come_from() {
    let folder = std::env::temp_dir().join(format!("walferry-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("walferry.toml");
    std::fs::write(&file, "name = \"from_file\"\n[copy]\njobs = 3\n[select]\nschema = [\"a\", \"b\"]\n")
        .unwrap();
    let shown = walferry()
        .command("config")
        .args(&["show", "--json", "--config", file.to_str().unwrap(), "--set", "index.jobs=5"])
        .env("WALFERRY_COPY_JOBS", "4")
        .env("WALFERRY_SERVICE_HOST", "set by Kubernetes")
        .run()
        .await
        .expect_code(0)
        .json();
    std::fs::remove_dir_all(&folder).unwrap();
    for (key, value, origin) in [
        ("copy.jobs", "4", "environment WALFERRY_COPY_JOBS"),
        ("index.jobs", "5", "--set"),
        ("name", "from_file", &format!("file {}", file.display())),
        ("select.schema", "a,b", &format!("file {}", file.display())),
        ("verify.jobs", "auto", "default"),
    ] {
        assert_eq!(shown[key]["value"], value, "{key}");
        assert_eq!(shown[key]["origin"], origin, "{key}");
    }
}

#[tokio::test]
async fn no_password_is_ever_printed() {
    let uri = format!("postgres://nobody:{CANARY}@127.0.0.1:1/nothing");
    let keywords = format!("host=127.0.0.1 port=1 user=nobody password={CANARY}");
    let broken = format!("postgres://nobody:{CANARY}@127.0.0.1:1/nothing?nonsense=1");
    for arguments in [
        // The connection string without its option.
        &["migrate", &uri][..],
        &["config", "show", "--source", &uri, "--target", &keywords],
        &["config", "show", "--json", "--source", &uri, "--target", &keywords],
        &["config", "show", "--set", &format!("source={broken}")],
        &["config", "show", "--source", &broken],
        &["status", "-vvv", "--target", &uri],
        &["status", "--log-format", "json", "--target", &keywords],
        &["verify", "-v", "--source", &uri, "--target", &uri],
        &["clean", "-v", "--source", &uri, "--target", &uri],
    ] {
        let output = run(arguments).await;
        assert!(!output.said().contains(CANARY), "{arguments:?}: {output:#?}");
    }
    let folder = std::env::temp_dir().join(format!("walferry-canary-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("walferry.toml");
    for text in [format!("source = \"{uri}\nname = 1"), format!("source = \"{uri}\"\nsourze = \"{uri}\"")] {
        std::fs::write(&file, text).unwrap();
        let output = run(&["config", "show", "--config", file.to_str().unwrap()]).await.expect_code(2);
        assert!(!output.said().contains(CANARY), "{output:#?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
