//! Connection strings as configuration: secret in every output, resolved by `pg` when they are used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pg::{Error, Params, Result};
use secrecy::{ExposeSecret, SecretString};

use super::Value;

/// A connection string as it was given. It may hold a password, so nothing prints it.
#[derive(Clone)]
pub struct Conninfo(SecretString);

impl Conninfo {
    /// Resolves service, environment and `.pgpass` as libpq does.
    pub fn params(&self) -> Result<Params> {
        Params::parse(self.0.expose_secret())
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Value for Conninfo {
    const KIND: &'static str = "connection string";

    fn read(text: &str) -> std::result::Result<Self, String> {
        // pg's messages about connection strings never repeat a value.
        match Params::parse(text) {
            Ok(_) => Ok(Conninfo(SecretString::from(text.to_owned()))),
            Err(error) => Err(match error.hint_text() {
                Some(hint) => format!("{} ({hint})", error.primary()),
                None => error.primary().to_owned(),
            }),
        }
    }

    /// What [`Value::read`] takes, without the password.
    fn show(&self) -> String {
        self.params().map(|params| without_password(&params)).unwrap_or_default()
    }
}

/// A password that stands in the configuration itself.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    #[must_use]
    pub fn get(&self) -> SecretString {
        self.0.clone()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Value for Secret {
    const KIND: &'static str = "password";

    fn read(text: &str) -> std::result::Result<Self, String> {
        Ok(Secret(SecretString::from(text.to_owned())))
    }

    fn show(&self) -> String {
        "(hidden)".to_owned()
    }
}

/// Keywords whose environment variable is not `PG` and the keyword.
const VARIABLES: &[(&str, &str)] = &[
    ("PGDATABASE", "dbname"),
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
];

/// The resolved connection in keyword/value form, with everything but secrets.
#[must_use]
pub fn without_password(params: &Params) -> String {
    let mut words = Vec::new();
    for (variable, value) in params.password_env() {
        if variable == "PGPASSWORD" || value.is_empty() {
            continue;
        }
        let keyword = VARIABLES
            .iter()
            .find(|(name, _)| *name == variable)
            .map(|(_, keyword)| (*keyword).to_owned())
            .or_else(|| variable.strip_prefix("PG").map(str::to_ascii_lowercase))
            .unwrap_or_default();
        if value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:,@+".contains(c)) {
            words.push(format!("{keyword}={value}"));
        } else {
            words.push(format!("{keyword}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
        }
    }
    if let Some(name) = params.application_name() {
        words.push(format!("application_name='{}'", name.replace('\\', "\\\\").replace('\'', "\\'")));
    }
    words.join(" ")
}

/// Where a password comes from when it is not in the connection string.
#[derive(Clone, Debug, Default)]
pub struct PasswordSource {
    pub file: Option<PathBuf>,
    pub command: Option<String>,
}

impl PasswordSource {
    /// Reads the password; `None` when neither is set.
    pub fn read(&self) -> Result<Option<SecretString>> {
        if let Some(file) = &self.file {
            return from_file(file).map(Some);
        }
        self.command.as_deref().map(from_command).transpose()
    }
}

fn first_line(text: String) -> SecretString {
    SecretString::from(text.lines().next().unwrap_or_default().to_owned())
}

fn from_file(file: &Path) -> Result<SecretString> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Error::usage(format!("could not read password file \"{}\": {error}", file.display()))
    })?;
    Ok(first_line(text))
}

/// Runs `command` in a shell; the first line it prints is the password. What it writes to stderr goes to ours.
fn from_command(command: &str) -> Result<SecretString> {
    let failed = |why: String| {
        Error::usage(format!("the password command {why}"))
            .hint("run it in a shell: it must print the password on one line and end with 0")
    };
    let output = Command::new("sh")
        .args(["-c", command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("failed: {}", output.status)));
    }
    String::from_utf8(output.stdout).map(first_line).map_err(|_| failed("printed no text".to_owned()))
}
