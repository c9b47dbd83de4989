//! Finding and running pg_dump.
//!
//! It has to be at least as new as the server it reads; a newer one reads every older server.
//! <https://www.postgresql.org/docs/current/app-pgdump.html>

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pg::{Class, Error, Params, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;

/// A pg_dump that is new enough.
#[derive(Clone, Debug)]
pub struct PgDump {
    program: PathBuf,
    pub version: String,
    major: u32,
    application_name: String,
    target_major: Option<u32>,
    extensions: Vec<String>,
    lock_wait: Option<Duration>,
}

/// What to dump.
#[derive(Clone, Debug, Default)]
pub struct DumpOptions {
    pub snapshot: Option<String>,
    pub no_owner: bool,
    pub no_privileges: bool,
    pub schemas: Vec<String>,
    pub exclude_schemas: Vec<String>,
    pub tables: Vec<String>,
    pub exclude_tables: Vec<String>,
}

impl DumpOptions {
    /// An archive holds the owners all the same: pg_restore is told, too.
    fn left_out(&self) -> impl Iterator<Item = String> {
        let owner = self.no_owner.then_some("--no-owner");
        owner.into_iter().chain(self.no_privileges.then_some("--no-privileges")).map(str::to_owned)
    }
}

impl PgDump {
    /// The newest pg_dump that is at least as new as the source's `major`: the configured one (or its folder), `WALFERRY_PG_BIN`, the
    /// PATH, Debian's folders.
    pub async fn find(configured: Option<&Path>, major: u32) -> Result<PgDump> {
        let mut found: Vec<(u32, PgDump)> = Vec::new();
        for (program, version) in versions(candidates(configured)).await {
            let digits =
                version.split_whitespace().find_map(|word| word.split('.').next()?.parse::<u32>().ok());
            if let Some(version_major) = digits {
                let dump = PgDump {
                    program: program.clone(),
                    version,
                    major: version_major,
                    application_name: "walferry (schema)".to_owned(),
                    target_major: None,
                    extensions: Vec::new(),
                    lock_wait: None,
                };
                // What was configured is used as soon as it is new enough.
                if configured.is_some_and(|folder| program.starts_with(folder)) && version_major >= major {
                    return Ok(dump);
                }
                found.push((version_major, dump));
            }
        }
        let newest = found.iter().map(|(version, _)| *version).max();
        found.into_iter().filter(|(version, _)| *version >= major).max_by_key(|(version, _)| *version).map(|(_, dump)| dump).ok_or_else(
            || {
                let have = newest.map_or_else(|| "none was found".to_owned(), |v| format!("the newest one found is of {v}"));
                Error::refuse("PG_DUMP_TOO_OLD", format!("pg_dump of PostgreSQL {major} or newer is needed: {have}")).hint(format!(
                    "install postgresql-client-{major}, or name it: --set schema.pg_dump=/usr/lib/postgresql/{major}/bin/pg_dump"
                ))
            },
        )
    }

    /// Under which name pg_dump appears in the source's pg_stat_activity.
    #[must_use]
    pub fn named(mut self, application_name: impl Into<String>) -> PgDump {
        self.application_name = application_name.into();
        self
    }

    /// Leaves out what an older target doesn't know and can do without.
    #[must_use]
    pub fn for_target(mut self, major: u32) -> PgDump {
        self.target_major = Some(major);
        self
    }

    /// Extensions to be dumped beside a selection of schemas or tables, which on its own includes none: [`super::used_extensions`].
    #[must_use]
    pub fn with_extensions(mut self, extensions: Vec<String>) -> PgDump {
        self.extensions = extensions;
        self
    }

    /// How long to wait for ACCESS SHARE on a table that somebody alters.
    #[must_use]
    pub fn lock_wait(mut self, limit: Duration) -> PgDump {
        self.lock_wait = Some(limit);
        self
    }

    /// Pre-data and post-data as SQL. The source is read once, and pg_restore takes the archive apart, which asks no server; where there is
    /// none beside pg_dump (or one older than 12, which knows no standard output), each section is dumped on its own.
    pub async fn sections(&self, source: &Params, options: &DumpOptions) -> Result<(String, String)> {
        let restore = self.program.with_file_name("pg_restore");
        if self.major < 12 || !restore.is_file() {
            return tokio::try_join!(
                self.section(source, "pre-data", options),
                self.section(source, "post-data", options)
            );
        }
        let archive = self.dump(source, &["--format=custom", "--compress=0"], options).await?;
        tokio::try_join!(
            unpack(&restore, &archive, "pre-data", options),
            unpack(&restore, &archive, "post-data", options)
        )
    }

    /// Dumps one section (`pre-data`, `post-data`) as SQL.
    pub async fn section(&self, source: &Params, section: &str, options: &DumpOptions) -> Result<String> {
        script(self.dump(source, &[&format!("--section={section}")], options).await?)
    }

    /// What pg_dump writes. Secrets go through the environment; the child dies with us.
    async fn dump(&self, source: &Params, how: &[&str], options: &DumpOptions) -> Result<Vec<u8>> {
        let mut command = std::process::Command::new(&self.program);
        command.args(how).args(self.arguments(options));
        source.configure_child(&mut command);
        command.env("PGAPPNAME", source.application_name_for(&self.application_name));
        command.env("LC_ALL", "C");
        let output = Command::from(command)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| could_not_run(&self.program, &error))?;
        if !output.status.success() {
            return Err(failure(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(output.stdout)
    }

    fn arguments(&self, options: &DumpOptions) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "--schema-only",
            "--no-publications",
            "--no-subscriptions",
            "--no-password",
            "--encoding=UTF8",
            "--exclude-schema=walferry",
            "--exclude-schema=walferry_fence",
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(options.snapshot.iter().map(|snapshot| format!("--snapshot={snapshot}")));
        arguments.extend(options.left_out());
        // Options of 14.
        let knows = self.major >= 14;
        if knows && self.target_major.is_some_and(|major| major < 14) {
            arguments.push("--no-toast-compression".to_owned());
        }
        if let Some(limit) = self.lock_wait {
            arguments.push(format!("--lock-wait-timeout={}", limit.as_millis().max(1)));
        }
        let patterns = [
            ("schema", &options.schemas),
            ("exclude-schema", &options.exclude_schemas),
            ("table", &options.tables),
            ("exclude-table", &options.exclude_tables),
        ];
        for (option, given) in patterns {
            arguments.extend(given.iter().map(|pattern| format!("--{option}={pattern}")));
        }
        // Named extensions alone would leave out everything else.
        if knows && !(options.schemas.is_empty() && options.tables.is_empty()) {
            let extensions = self.extensions.iter().map(|name| format!("--extension={}", pattern(name)));
            arguments.extend(extensions);
        }
        arguments
    }
}

/// One section of an archive as SQL. pg_restore writes it as pg_dump would have, by the same code:
/// <https://www.postgresql.org/docs/current/app-pgrestore.html>
async fn unpack(restore: &Path, archive: &[u8], section: &str, options: &DumpOptions) -> Result<String> {
    let mut child = Command::new(restore)
        .args(["--file=-", &format!("--section={section}")])
        .args(options.left_out())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| could_not_run(restore, &error))?;
    let mut input = child.stdin.take();
    let write = async {
        // One that has ended early says why on its own.
        if let Some(input) = &mut input {
            let _ = input.write_all(archive).await;
        }
        drop(input.take());
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(|error| could_not_run(restore, &error))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        // As for pg_dump: it is tried again.
        let Some(said) = stderr.lines().next().map(str::trim) else {
            return Err(Error::connection("pg_restore was killed"));
        };
        return Err(Error::failed(
            "PG_RESTORE",
            format!("pg_restore could not read what pg_dump wrote: {said}"),
        )
        .hint(
            "install pg_dump and pg_restore of one version, or name another one: --set schema.pg_dump=PATH",
        ));
    }
    script(output.stdout)
}

/// A whole dump in plain SQL.
fn script(written: Vec<u8>) -> Result<String> {
    let dump = String::from_utf8(written)
        .map_err(|_| Error::failed("PG_DUMP", "pg_dump wrote what is not UTF-8"))?;
    if !super::sections::is_complete(&dump) {
        return Err(Error::connection("pg_dump ended before its output did"));
    }
    Ok(dump)
}

fn could_not_run(program: &Path, error: &std::io::Error) -> Error {
    Error::failed("PG_DUMP", format!("could not run {}: {error}", program.display()))
}

/// A name as a pattern of pg_dump that matches it alone.
fn pattern(name: &str) -> String {
    pg::quote_ident(name)
}

/// What pg_dump said, in our words. It prints no row and no password.
fn failure(stderr: &str) -> Error {
    let said =
        |prefix: &str| stderr.lines().find_map(|line| Some(line.split_once(prefix)?.1.trim().to_owned()));
    let Some(message) = said("pg_dump: error: ").or_else(|| stderr.lines().next().map(str::to_owned)) else {
        return Error::connection("pg_dump was killed");
    };
    let error = |class, code| Error::new(class, code, format!("pg_dump failed: {message}"));
    let lost = [
        "connection to server",
        "server closed the connection",
        "terminating connection",
        "the database system is",
    ];
    let refused = ["authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied"];
    let error = if message.contains("canceling statement due to") || message.contains("could not obtain lock")
    {
        error(Class::Stop, "PG_DUMP_LOCKED").hint(
            "another session holds a table of the source: see SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity, and \
             end it, or wait",
        )
    } else if message.contains("permission denied") {
        error(Class::Stop, "PG_DUMP_PERMISSION").hint(
            "on the source: GRANT SELECT on the table, and USAGE on its schema, to the role of --source",
        )
    } else if message.contains("snapshot") {
        error(Class::Connection, "PG_DUMP_SNAPSHOT")
    } else if lost.iter().any(|text| message.contains(text))
        && !refused.iter().any(|text| message.contains(text))
    {
        error(Class::Connection, "PG_DUMP_CONNECTION")
    } else {
        error(Class::Stop, "PG_DUMP")
    };
    match said("pg_dump: hint: ") {
        Some(hint) if error.hint_text().is_none() => error.hint(hint),
        _ => error,
    }
}

/// What each program says of itself, in the same order; those that don't run are left out. They are asked side by side and once a process.
async fn versions(programs: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
    static SAID: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut asked = JoinSet::new();
    for program in programs.iter().filter(|program| !said.contains_key(*program)) {
        let program = program.clone();
        asked.spawn(async move {
            let output = Command::new(&program).arg("--version").stdin(Stdio::null()).output().await.ok()?;
            Some((program, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
        });
    }
    while let Some(answer) = asked.join_next().await {
        said.extend(answer.ok().flatten());
    }
    SAID.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&said);
    programs.into_iter().filter_map(|program| Some((program.clone(), said.get(&program)?.clone()))).collect()
}

/// `configured`: the program, or its folder.
fn candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("WALFERRY_PG_BIN").map(PathBuf::from));
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|entry| entry.path().join("bin")));
    }
    let configured =
        configured.map(|path| if path.is_dir() { path.join("pg_dump") } else { path.to_owned() });
    // Debian's wrapper, a script that takes 40 ms, only runs what is in Debian's folders.
    let wrapper = |program: &PathBuf| program.canonicalize().is_ok_and(|file| file.ends_with("pg_wrapper"));
    let found = folders.into_iter().map(|folder| folder.join("pg_dump")).filter(|program| !wrapper(program));
    let mut programs: Vec<PathBuf> = configured.into_iter().chain(found).collect();
    // A folder may be there under two names.
    let mut seen = HashSet::new();
    programs.retain(|program| program.canonicalize().is_ok_and(|file| file.is_file() && seen.insert(file)));
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_dump_says_becomes_an_error() {
        for (said, class, code) in [
            (
                "pg_dump: error: connection to server at \"h\", port 1 failed: Connection refused\n\tIs the server running?",
                Class::Connection,
                "PG_DUMP_CONNECTION",
            ),
            (
                "pg_dump: error: connection to server at \"h\" failed: FATAL:  password authentication failed for user \"u\"",
                Class::Stop,
                "PG_DUMP",
            ),
            (
                "pg_dump: error: query failed: ERROR:  permission denied for table t\npg_dump: detail: Query was: LOCK TABLE t",
                Class::Stop,
                "PG_DUMP_PERMISSION",
            ),
            (
                "pg_dump: error: query failed: ERROR:  snapshot \"x\" does not exist",
                Class::Connection,
                "PG_DUMP_SNAPSHOT",
            ),
            ("", Class::Connection, "CONNECTION"),
        ] {
            let error = failure(said);
            assert_eq!((error.class(), error.code()), (class, code), "{said}");
        }
    }
}
