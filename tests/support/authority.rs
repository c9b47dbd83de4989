//! A certificate authority of the test's own, and servers that show what it has issued.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Postgres, scratch};

/// The name that certificates are made for.
pub const HOST: &str = "db.walferry.test";

/// A folder of keys and certificates, made anew by openssl.
pub struct Authority(PathBuf);

impl Authority {
    pub fn new() -> Authority {
        let authority = Authority(scratch::folder("tls"));
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=test authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ]);
        authority
    }

    pub fn openssl(&self, arguments: &[&str]) {
        let output =
            Command::new("openssl").args(arguments).current_dir(&self.0).output().expect("openssl runs");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// `<name>.key` and `<name>.crt`, signed by `ca`; with `extensions` X.509 version 3, without any version 1.
    pub fn issue(&self, name: &str, subject: &str, extensions: &str, days: &str) {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        self.openssl(&[
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &request,
        ]);
        let mut sign = vec![
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            &certificate,
            "-days",
            days,
        ];
        if !extensions.is_empty() {
            std::fs::write(self.0.join("ext"), extensions).unwrap();
            sign.extend(["-extfile", "ext"]);
        }
        self.openssl(&sign);
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// An authority below this one: `<name>.key` and `<name>.crt`.
    pub fn below(&self, name: &str) {
        self.issue(
            name,
            &format!("/CN={name}"),
            "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign",
            "30",
        );
    }

    /// As `issue`, signed by the authority `by`.
    pub fn issue_by(&self, by: &str, name: &str, extensions: &str) {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let (ca, ca_key) = (format!("{by}.crt"), format!("{by}.key"));
        self.openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=server",
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        std::fs::write(self.0.join("ext"), extensions).unwrap();
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-out",
            &certificate,
            "-days",
            "30",
            "-extfile",
            "ext",
        ]);
    }

    /// Puts the certificates `names` into one file, as a server sends them: its own first.
    pub fn chain(&self, into: &str, names: &[&str]) {
        let chain: String = names.iter().map(|name| self.read(&format!("{name}.crt"))).collect();
        std::fs::write(self.file(&format!("{into}.crt")), chain).unwrap();
        std::fs::copy(self.file(&format!("{}.key", names[0])), self.file(&format!("{into}.key"))).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// A server that shows the certificate `name`.
    pub async fn serve(&self, name: &str) -> Postgres {
        let server = Postgres::builder(15)
            .hba("hostssl all app all scram-sha-256")
            .hba("hostssl all client all cert")
            .hba("hostssl all encrypted all trust")
            .hba("hostnossl all plain all trust")
            .hba("host all app,client,encrypted,plain all reject")
            .start()
            .await;
        server.create_role("app", "REPLICATION PASSWORD 'secret'").await;
        for role in ["client", "encrypted", "plain"] {
            server.create_role(role, "").await;
        }
        self.show(&server, name).await;
        server
    }

    pub async fn show(&self, server: &Postgres, name: &str) {
        server.write_file("server.crt", &self.read(&format!("{name}.crt")));
        server.write_file("server.key", &self.read(&format!("{name}.key")));
        server.write_file("root.crt", &self.read("ca.crt"));
        let settings = [
            "ssl_cert_file = 'server.crt'",
            "ssl_key_file = 'server.key'",
            "ssl_ca_file = 'root.crt'",
            "ssl = on",
        ];
        for setting in settings {
            server.sql("postgres", &format!("ALTER SYSTEM SET {setting}")).await;
        }
        server.reload().await;
        let on = "SELECT setting = 'on' FROM pg_settings WHERE name = 'ssl'";
        server.wait_until("postgres", on, std::time::Duration::from_secs(10)).await;
    }

    pub fn root(&self) -> String {
        format!("sslrootcert={}", self.file("ca.crt").display())
    }
}
