//! A broker with listeners for every protocol: SASL_SSL, SSL with our certificate, SASL_PLAINTEXT, and for the test itself PLAINTEXT.
//!
//! ```ignore
//! let secured = Secured::shared().await;
//! let brokers = secured.sasl_ssl();      // localhost:…, which is the only name in the certificate
//! ```
//!
//! The chain is root, intermediate, server; clients are given the root. Users are `walferry` and `nobody`, both with [`PASSWORD`];
//! neither may do anything until [`Secured::grant`] lets it.

// What is for TLS alone waits for a build that has it.
#![cfg_attr(not(feature = "kafka-tls"), allow(dead_code))]

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;

use super::Kafka;
use crate::support::postgres::free_port;
use crate::support::{programs, scratch};

/// Of both users.
pub const PASSWORD: &str = "k4fka-c4nary";

pub struct Secured {
    pub kafka: Kafka,
    sasl_ssl: u16,
    ssl: u16,
    sasl: u16,
    /// Holds the certificates.
    folder: PathBuf,
}

impl Secured {
    pub async fn shared() -> &'static Secured {
        static SHARED: OnceCell<Secured> = OnceCell::const_new();
        SHARED.get_or_init(Secured::start).await
    }

    async fn start() -> Secured {
        let folder = scratch::folder("certificates");
        certificates(&folder);
        let (sasl_ssl, ssl, sasl) = (free_port(), free_port(), free_port());
        let path = |name: &str| folder.join(name).display().to_string();
        let listeners = |host: &str| {
            format!(
                "PLAINTEXT://127.0.0.1:{{port}},SASL_SSL://{host}:{sasl_ssl},SSL://{host}:{ssl},SASL_PLAINTEXT://127.0.0.1:{sasl}"
            )
        };
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let properties = [
            format!("listeners={},CONTROLLER://127.0.0.1:{{controller}}", listeners("127.0.0.1")),
            format!("advertised.listeners={}", listeners("localhost")),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"
                .to_owned(),
            "listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512".to_owned(),
            format!("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}"),
            format!("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}"),
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN".to_owned(),
            format!(
                "listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
                 user_walferry=\"{PASSWORD}\" user_nobody=\"{PASSWORD}\";"
            ),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", path("server.pem")),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", path("root.crt")),
            "listener.name.ssl.ssl.client.auth=required".to_owned(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            // Whoever comes by PLAINTEXT is the test; the certificate's name is an administrator.
            "super.users=User:ANONYMOUS;User:CN=client".to_owned(),
        ];
        let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
        let mut kafka = Kafka::prepare(&properties, 1, |file| {
            format_with_users(file);
            true
        });
        kafka.restart().await;
        Secured { kafka, sasl_ssl, ssl, sasl, folder }
    }

    pub fn sasl_ssl(&self) -> String {
        format!("localhost:{}", self.sasl_ssl)
    }

    /// Asks for a certificate.
    pub fn ssl(&self) -> String {
        format!("localhost:{}", self.ssl)
    }

    /// SASL/PLAIN.
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.sasl)
    }

    /// `root.crt`, `other.crt` (of another authority), `client.crt`, `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Lets user `walferry` do with topics that begin with `prefix` what the documentation asks for, by Kafka's own tool.
    pub fn grant(&self, prefix: &str, operations: &[&str]) {
        let mut command = java("org.apache.kafka.tools.AclCommand");
        command.args([
            "--bootstrap-server",
            &self.kafka.brokers(),
            "--add",
            "--allow-principal",
            "User:walferry",
        ]);
        command.args(["--topic", prefix, "--resource-pattern-type", "prefixed"]);
        operations.iter().for_each(|operation| {
            command.args(["--operation", operation]);
        });
        run(&mut command);
    }
}

fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]);
    command.arg(programs::kafka().join("libs").join("*")).arg(class);
    command
}

fn format_with_users(properties: &Path) {
    let mut command = java("kafka.tools.StorageTool");
    command.args(["format", "-t", "walferryTestsCluster00", "-c"]).arg(properties);
    for user in ["walferry", "nobody"] {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.args(["--add-scram", &format!("{mechanism}=[name={user},password={PASSWORD}]")]);
        }
    }
    run(&mut command);
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program is installed");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

/// Root and intermediate authority, the server's certificate for `localhost` alone, a client's, and a stranger's root.
fn certificates(folder: &Path) {
    let script = r#"
        set -e
        root() { # name
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$1" -keyout $1.key -out $1.crt \
                -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
        }
        sign() { # name, subject, authority, extensions
            openssl req -new -newkey rsa:2048 -nodes -subj "$2" -keyout $1.key -out $1.csr
            printf '%b' "$4" >$1.ext
            openssl x509 -req -in $1.csr -CA $3.crt -CAkey $3.key -CAcreateserial -days 30 -extfile $1.ext -out $1.crt
        }
        root root
        root other
        sign between "/CN=between" root 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n'
        sign server "/CN=broker" between 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n'
        sign client "/CN=client" root 'extendedKeyUsage=clientAuth\n'
        openssl pkcs8 -topk8 -nocrypt -in server.key -out server.pk8
        cat server.pk8 server.crt between.crt >server.pem
    "#;
    run(Command::new("bash").args(["-c", script]).current_dir(folder));
}
