//! Connection strings of every form, and what must never be shown of them.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{AuthMethod, Endpoint, Environment, Params, SslMode};
use crate::Class;

const CANARY: &str = "c4n4ry";

fn parse(text: &str) -> Params {
    Params::parse_with(text, &Environment::of(&[], None, "me"))
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// `user password dbname host:port,…`
fn facts(params: &Params) -> String {
    let hosts: Vec<String> = params.hosts.iter().map(ToString::to_string).collect();
    let password = params.password.as_ref().map_or("-", |password| password.expose_secret());
    format!("{} {password} {} {}", params.user, params.dbname, hosts.join(","))
}

#[test]
fn every_form_that_libpq_takes() {
    for (text, expected) in [
        ("postgresql://ann:pw@db:5433/app", "ann pw app db:5433"),
        ("postgres://ann@db", "ann - ann db:5432"),
        ("postgresql://db/app", "me - app db:5432"),
        ("postgresql://a%40b:p%2Fw%3A%25@db/my%20db", "a@b p/w:% my db db:5432"),
        ("postgresql://ann:p@ss:word@db/app", "ann p@ss:word app db:5432"),
        ("postgresql://ann@h1:1,h2,h3:3/app", "ann - app h1:1,h2:5432,h3:3"),
        ("postgresql://[::1]:5433/app", "me - app [::1]:5433"),
        ("postgresql://ann@%2Ftmp%2Fsock:5433/app", "ann - app /tmp/sock:5433"),
        ("postgresql:///app?host=/tmp/sock&port=5433&user=bob", "bob - app /tmp/sock:5433"),
        ("postgresql://db/app?user=bob&password=x%26y", "bob x&y app db:5432"),
        ("host=db port=5433 user=ann password=pw dbname=app", "ann pw app db:5433"),
        ("host = db  user= 'me too' dbname ='a b'", "me too - a b db:5432"),
        (r"host=db password='a\'b\\c' user=x\ y", r"x y a'b\c x y db:5432"),
        ("host=h1,h2 port=1,2 hostaddr=127.0.0.1,127.0.0.2 dbname=app", "me - app h1:1,h2:2"),
        ("host=h1,h2 port=7 dbname=app", "me - app h1:7,h2:7"),
        ("hostaddr=127.0.0.1 dbname=app", "me - app 127.0.0.1:5432"),
    ] {
        assert_eq!(facts(&parse(text)), expected, "{text}");
    }
}

#[test]
fn string_over_service_over_environment_over_default() {
    let home = std::env::temp_dir().join(format!("walferry-params.{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let file = home.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(
        ".pg_service.conf",
        "# mine\n[other]\nhost=wrong\n[prod]\nhost=service-host\nport=6000\ndbname=from-service\n[last]\nhost=wrong\n",
    );
    write(".pgpass", "service-host:6000:*:ann:from-pgpass\n");
    let environment = Environment::of(
        &[("PGHOST", "env-host"), ("PGUSER", "ann"), ("PGCONNECT_TIMEOUT", "7"), ("PGSSLMODE", "require")],
        Some(&home),
        "me",
    );
    let params = Params::parse_with("service=prod dbname=app", &environment).unwrap();
    assert_eq!(facts(&params), "ann - app service-host:6000");
    assert_eq!(params.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(params.tls.mode, SslMode::Require);
    assert_eq!(params.password_for(&params.hosts[0]).unwrap().expose_secret(), "from-pgpass");

    let params = Params::parse_with("postgresql://?service=prod&sslmode=disable", &environment).unwrap();
    assert_eq!(facts(&params), "ann - from-service service-host:6000");
    let missing = Params::parse_with("service=nope", &environment).unwrap_err();
    assert_eq!(
        (missing.class(), missing.primary()),
        (Class::Usage, "definition of service \"nope\" not found")
    );
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn defaults() {
    let params = parse("postgresql://db/app");
    assert_eq!(params.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(params.keepalive.unwrap().idle, Duration::from_secs(10));
    assert!(
        params.require_auth.allows(AuthMethod::ScramSha256) && params.require_auth.allows(AuthMethod::None)
    );
    assert!(
        !params.require_auth.allows(AuthMethod::Md5) && !params.require_auth.allows(AuthMethod::Password)
    );
    assert!(parse("require_auth=md5,scram-sha-256").require_auth.allows(AuthMethod::Md5));
    assert!(!parse("require_auth=!none").require_auth.allows(AuthMethod::None));
    assert_eq!(parse("postgresql://db/app?connect_timeout=0").connect_timeout, None);
    assert_eq!(parse("keepalives=0").keepalive, None);
    assert_eq!(parse("sslrootcert=system").tls.mode, SslMode::VerifyFull);
    assert!(matches!(parse("").hosts[0].endpoint, Endpoint::Unix(_) | Endpoint::Tcp { .. }));
}

#[test]
fn clear_text_to_another_host_has_to_be_asked_for() {
    for (text, mode, given) in [
        ("postgresql://db/app", SslMode::Require, false),
        ("host=192.0.2.7", SslMode::Require, false),
        ("host=localhost hostaddr=192.0.2.7", SslMode::Require, false),
        ("host=localhost,db", SslMode::Require, false),
        ("host=db sslnegotiation=direct", SslMode::Require, false),
        ("host=db sslmode=prefer", SslMode::Prefer, true),
        ("host=db sslmode=disable", SslMode::Disable, true),
        ("host=db sslmode=verify-ca", SslMode::VerifyCa, true),
        ("host=db sslrootcert=system", SslMode::VerifyFull, false),
        ("host=/tmp", SslMode::Prefer, false),
        ("host=localhost", SslMode::Prefer, false),
        ("host=127.0.0.1", SslMode::Prefer, false),
        ("host=::1", SslMode::Prefer, false),
        ("host=db hostaddr=127.0.0.1", SslMode::Prefer, false),
        ("host=/tmp,127.0.0.1", SslMode::Prefer, false),
        ("host=127.0.0.1 sslmode=require", SslMode::Require, true),
    ] {
        let tls = parse(text).tls;
        assert_eq!((tls.mode, tls.mode_given), (mode, given), "{text}");
    }
    let environment = Environment::of(&[("PGSSLMODE", "disable")], None, "me");
    let tls = Params::parse_with("host=db", &environment).unwrap().tls;
    assert_eq!((tls.mode, tls.mode_given), (SslMode::Disable, true));
}

#[test]
fn the_application_name_keeps_its_purpose() {
    let own = parse("postgresql://db/app?application_name=mine");
    let none = parse("postgresql://db/app");
    for (params, ours, expected) in [
        (&none, "walferry", "walferry".to_owned()),
        (&none, "walferry (copy)", "walferry (copy)".to_owned()),
        (&own, "walferry", "mine".to_owned()),
        (&own, "walferry (copy)", "mine (copy)".to_owned()),
        (&none, &format!("{} (copy)", "é".repeat(40)), format!("{} (copy)", "é".repeat(28))),
    ] {
        assert_eq!(params.application_name_for(ours), expected);
    }
}

#[test]
fn what_cannot_be_is_a_usage_error_that_shows_no_secret() {
    for text in [
        "postgresql://ann:c4n4ry/x@db/app",
        "postgresql://ann:12/c4n4ry@db/app",
        "postgresql://ann:c4n4ry%zz@db/app",
        "postgresql://ann:c4n4ry%00@db/app",
        "postgresql://ann:c4n4ry@db:notaport/app",
        "postgresql://ann@db:c4n4ry/app",
        "postgresql://ann:c4n4ry@db/app?nonsense=1",
        "postgresql://ann:c4n4ry@db/app?password",
        "postgresql://[::1/app?password=c4n4ry",
        "host=db password=two C4N4RY! c4n4ry",
        "host=db password='c4n4ry",
        "host=db password=c4n4ry Passw0rd=c4n4ry",
        "host=a,b port=1,2,3 password=c4n4ry",
        "host=db sslmode=verify password=c4n4ry",
        "host=db sslpassword=c4n4ry",
        "host=db connect_timeout=c4n4ry",
        "host=db gssencmode=require password=c4n4ry",
        "host=db require_auth=c4n4ry",
        "host=db require_auth=md5,!none password=c4n4ry",
        "sslnegotiation=direct sslmode=prefer password=c4n4ry",
        "sslrootcert=system sslmode=require password=c4n4ry",
        "mysql://ann:c4n4ry@db/app",
        "scram_client_key=c4n4ry",
    ] {
        let environment = Environment::of(&[], None, "me");
        let error = Params::parse_with(text, &environment).expect_err(text);
        assert_eq!(error.class(), Class::Usage, "{text}");
        let shown = format!("{error} {error:?} {:?} {:?}", error.detail_text(), error.hint_text());
        assert!(!shown.to_lowercase().contains(CANARY), "{text}: {shown}");
    }
}

#[test]
fn nothing_shown_of_params_holds_the_password() {
    let params = parse("postgresql://ann:c4n4ry@db:5433/app?options=-c%20a%3Db&sslmode=disable");
    for shown in [format!("{params:?}"), format!("{params:#?}"), params.to_string(), params.display()] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
    assert_eq!(params.display(), "ann@db:5433/app");
}

#[test]
fn a_child_gets_the_same_connection_by_environment() {
    let params = parse(
        "postgresql://ann:c4n4ry@h1:1,h2:2/app?sslmode=verify-full&sslrootcert=/ca.pem&options=-c%20a%3Db&target_session_attrs=primary",
    );
    let variables = params.password_env();
    let get = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    for (name, value) in [
        ("PGHOST", "h1,h2"),
        ("PGPORT", "1,2"),
        ("PGUSER", "ann"),
        ("PGDATABASE", "app"),
        ("PGPASSWORD", CANARY),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/ca.pem"),
        ("PGOPTIONS", "-c a=b"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGREQUIREAUTH", "scram-sha-256,none"),
    ] {
        assert_eq!(get(name), Some(value), "{name}");
    }
    let mut command = std::process::Command::new("true");
    params.configure_child(&mut command);
    let removed: Vec<_> =
        command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
    assert!(removed.contains(&std::ffi::OsStr::new("PGSERVICE")));
    assert!(Path::new(command.get_program()).ends_with("true"));
}
