//! TLS with the meanings of libpq: who is let through by which sslmode, and to whom SCRAM is bound.

use std::path::Path;

use pg::params::Environment;
use pg::{Class, Params, Purpose, Session, Wire};

use crate::support::Postgres;
use crate::support::authority::{Authority, HOST};

fn params(server: &Postgres, role: &str, host: &str, rest: &str) -> Params {
    let text = format!(
        "host={host} hostaddr=127.0.0.1 port={} user={role} dbname=postgres password=secret {rest}",
        server.port()
    );
    Params::parse_with(&text, &Environment::of(&[], None, "nobody")).unwrap()
}

async fn connect(params: &Params) -> pg::Result<Wire> {
    Wire::connect(params, Purpose::Query, "walferry", false).await
}

/// Connects by every way we have, and says whether TLS is on.
async fn encrypted(params: &Params) -> bool {
    let mut wire = connect(params).await.unwrap_or_else(|error| panic!("{params:?}: {error:?}"));
    let session = Session::connect(params, Purpose::Query, "walferry").await.unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let ssl: bool = session.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(wire.simple_value(sql).await.unwrap().as_deref() == Some("t"), ssl);
    assert_eq!(wire.is_tls(), ssl);
    ssl
}

async fn refused(params: &Params) -> pg::Error {
    let Err(error) = connect(params).await else { panic!("{params:?} was let in") };
    assert_eq!(error.class(), Class::Refuse, "{error:?}");
    assert!(Session::connect(params, Purpose::Query, "walferry").await.is_err());
    error
}

#[tokio::test]
async fn verify_full_wants_the_right_name_authority_and_date() {
    let authority = Authority::new();
    authority.issue("good", "/CN=anything", &format!("subjectAltName=DNS:{HOST},IP:127.0.0.1"), "30");
    authority.issue("expired", "/CN=anything", &format!("subjectAltName=DNS:{HOST}"), "-1");
    let other = Authority::new();
    let server = authority.serve("good").await;
    let full = format!("sslmode=verify-full {}", authority.root());
    assert!(encrypted(&params(&server, "app", HOST, &full)).await);
    assert!(encrypted(&params(&server, "app", "127.0.0.1", &full)).await);
    assert!(encrypted(&params(&server, "app", HOST, &format!("{full} channel_binding=require"))).await);
    assert!(
        encrypted(&params(
            &server,
            "app",
            HOST,
            &format!("{full} ssl_max_protocol_version=TLSv1.2 channel_binding=require")
        ))
        .await
    );

    let error = refused(&params(&server, "app", "other.walferry.test", &full)).await;
    assert!(error.hint_text().unwrap().contains("verify-ca"), "{error:?}");
    assert!(
        encrypted(&params(
            &server,
            "app",
            "other.walferry.test",
            &format!("sslmode=verify-ca {}", authority.root())
        ))
        .await
    );

    let unknown = format!("sslmode=verify-ca {}", other.root());
    let error = refused(&params(&server, "app", HOST, &unknown)).await;
    assert!(error.hint_text().unwrap().contains("sslrootcert"), "{error:?}");
    // A root certificate makes "require" verify.
    assert_eq!(
        refused(&params(&server, "app", HOST, &format!("sslmode=require {}", other.root()))).await.code(),
        "TLS"
    );
    assert!(encrypted(&params(&server, "app", HOST, "sslmode=require")).await);
    let missing = "sslmode=verify-full sslrootcert=/nowhere/ca.crt";
    assert_eq!(refused(&params(&server, "app", HOST, missing)).await.code(), "TLS");
    assert_eq!(refused(&params(&server, "app", HOST, "sslmode=verify-full")).await.code(), "TLS");

    authority.show(&server, "expired").await;
    let error = refused(&params(&server, "app", HOST, &full)).await;
    assert_eq!(error.hint_text(), Some("renew the server's certificate"), "{error:?}");
}

/// As companies have it: a root that is known, and an authority in between that the server shows.
#[tokio::test]
async fn a_chain_is_followed_to_the_root_that_is_known() {
    let authority = Authority::new();
    authority.below("between");
    authority.issue_by("between", "server", &format!("subjectAltName=DNS:{HOST}"));
    authority.chain("whole", &["server", "between"]);
    let server = authority.serve("whole").await;
    let full = format!("sslmode=verify-full channel_binding=require {}", authority.root());
    assert!(encrypted(&params(&server, "app", HOST, &full)).await);
    assert_eq!(refused(&params(&server, "app", "other.walferry.test", &full)).await.code(), "TLS");
    // Without the link in between it leads nowhere.
    authority.show(&server, "server").await;
    assert_eq!(refused(&params(&server, "app", HOST, &full)).await.code(), "TLS");
    // A server's certificate is no authority.
    authority.issue(
        "leaf",
        "/CN=leaf",
        &format!("subjectAltName=DNS:{HOST}\nbasicConstraints=critical,CA:FALSE"),
        "30",
    );
    authority.issue_by("leaf", "forged", &format!("subjectAltName=DNS:{HOST}"));
    authority.chain("stolen", &["forged", "leaf"]);
    authority.show(&server, "stolen").await;
    assert_eq!(refused(&params(&server, "app", HOST, &full)).await.code(), "TLS");
}

#[tokio::test]
async fn certificates_by_postgresqls_own_recipes_are_taken() {
    let authority = Authority::new();
    // Version 1, the name in the CN; and one that is its own authority.
    authority.issue("v1", &format!("/CN={HOST}"), "", "30");
    authority.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:secp384r1",
        "-nodes",
        "-days",
        "30",
        "-sha384",
        "-subj",
        &format!("/CN={HOST}"),
        "-keyout",
        "self.key",
        "-out",
        "self.crt",
    ]);
    authority.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
        "-days",
        "30",
        "-subj",
        &format!("/CN={HOST}"),
        "-keyout",
        "ed.key",
        "-out",
        "ed.crt",
    ]);
    let server = authority.serve("v1").await;
    for (shown, trusted, bound) in [("v1", "ca", true), ("self", "self", true), ("ed", "ed", false)] {
        authority.show(&server, shown).await;
        let trusted = authority.file(&format!("{trusted}.crt"));
        let full = format!("sslmode=verify-full sslrootcert={}", trusted.display());
        let role = if bound { "app" } else { "encrypted" };
        assert!(encrypted(&params(&server, role, HOST, &full)).await, "{shown}");
        assert_eq!(refused(&params(&server, role, "other.walferry.test", &full)).await.code(), "TLS");
        let required = if bound { "channel_binding=require" } else { "" };
        assert!(
            encrypted(&params(
                &server,
                role,
                HOST,
                &format!("{full} {required} ssl_max_protocol_version=TLSv1.2")
            ))
            .await
        );
        assert!(encrypted(&params(&server, role, HOST, "sslmode=require")).await);
    }
    // Somebody else's self-signed certificate of the same name is nobody's.
    let stranger = Authority::new();
    stranger.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        &format!("/CN={HOST}"),
        "-keyout",
        "self.key",
        "-out",
        "self.crt",
    ]);
    stranger.show(&server, "self").await;
    let full = format!("sslmode=verify-full sslrootcert={}", authority.file("self.crt").display());
    assert_eq!(refused(&params(&server, "encrypted", HOST, &full)).await.code(), "TLS");
}

#[tokio::test]
async fn weaker_modes_take_what_the_server_has() {
    let authority = Authority::new();
    authority.issue("good", "/CN=anything", &format!("subjectAltName=DNS:{HOST}"), "30");
    let server = authority.serve("good").await;
    for (role, mode, tls) in [
        ("encrypted", "allow", true),
        ("encrypted", "prefer", true),
        ("encrypted", "require", true),
        ("plain", "disable", false),
        ("plain", "allow", false),
        ("plain", "prefer", false),
    ] {
        assert_eq!(
            encrypted(&params(&server, role, HOST, &format!("sslmode={mode}"))).await,
            tls,
            "{role} {mode}"
        );
    }
    for (role, mode) in [("encrypted", "disable"), ("plain", "require")] {
        let error = refused(&params(&server, role, HOST, &format!("sslmode={mode}"))).await;
        assert_eq!(error.sqlstate(), Some("28000"), "{error:?}");
    }
    // Over TLS the walsender speaks as well.
    let mut walsender = Wire::connect(
        &params(&server, "app", HOST, "sslmode=require"),
        Purpose::SourceSnapshot,
        "walferry",
        true,
    )
    .await
    .unwrap();
    assert_eq!(walsender.simple("IDENTIFY_SYSTEM").await.unwrap().len(), 1);
    // … and so do cancel requests.
    let session =
        Session::connect(&params(&server, "app", HOST, "sslmode=require"), Purpose::Query, "walferry")
            .await
            .unwrap();
    let canceller = session.canceller();
    let (slept, ()) = tokio::join!(session.batch_execute("SELECT pg_sleep(1000)"), async {
        let active = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1000)' AND state = 'active'";
        server.wait_until("postgres", active, std::time::Duration::from_secs(10)).await;
        canceller.cancel().await.unwrap();
    });
    assert!(pg::Error::from(slept.unwrap_err()).is("57014"));

    server.sql("postgres", "ALTER SYSTEM SET ssl = off").await;
    server.reload().await;
    let off = "SELECT setting = 'off' FROM pg_settings WHERE name = 'ssl'";
    server.wait_until("postgres", off, std::time::Duration::from_secs(10)).await;
    assert!(!encrypted(&params(&server, "plain", HOST, "sslmode=prefer")).await);
    let error = refused(&params(&server, "plain", HOST, "sslmode=require")).await;
    assert!(error.primary().contains("does not support TLS"), "{error:?}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_key_kept() {
    let authority = Authority::new();
    authority.issue("good", "/CN=anything", &format!("subjectAltName=DNS:{HOST}"), "30");
    authority.issue("client", "/CN=client", "extendedKeyUsage=clientAuth", "30");
    let stranger = Authority::new();
    stranger.issue("client", "/CN=client", "extendedKeyUsage=clientAuth", "30");
    let server = authority.serve("good").await;
    let with =
        |from: &Path| format!("sslmode=require sslcert={0}/client.crt sslkey={0}/client.key", from.display());
    private(&authority.file("client.key"), 0o600);
    private(&stranger.file("client.key"), 0o600);
    assert!(encrypted(&params(&server, "client", HOST, &with(authority.folder()))).await);
    let error = refused(&params(&server, "client", HOST, "sslmode=require")).await;
    assert_eq!(error.sqlstate(), Some("28000"));
    assert_eq!(refused(&params(&server, "client", HOST, &with(stranger.folder()))).await.code(), "TLS");
    private(&authority.file("client.key"), 0o644);
    let error = refused(&params(&server, "client", HOST, &with(authority.folder()))).await;
    assert!(error.hint_text().unwrap().starts_with("chmod 0600"), "{error:?}");
}

fn private(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}
