//! Data folders: `initdb` once per machine and major, a copy for every server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::support::programs;

/// Copies the template of `major` to `data`, which must not exist yet.
pub fn copy(major: u32, data: &Path) {
    let template = template(major);
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=always"])
        .args([template.as_path(), data])
        .output()
        .expect("cp runs");
    assert!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes a file that only the server's account may read.
pub fn write_private(path: &Path, content: &str) {
    fs::write(path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    programs::give_to_server_account(path);
}

fn template(major: u32) -> PathBuf {
    // One initdb at a time in this process; processes settle it by rename.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let programs_folder = programs::server(major);
    let account =
        programs::server_account().map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
    let folder = writable(account);
    let template = folder.join(format!("{}-v1", server_version(programs_folder)));
    if template.exists() {
        return template;
    }
    let making = folder.join(format!("making-{major}.{}", std::process::id()));
    let _ = fs::remove_dir_all(&making);
    let output = programs::as_server_account(programs_folder.join("initdb"))
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
        .arg(&making)
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .output()
        .expect("initdb runs");
    assert!(output.status.success(), "initdb {major}: {}", String::from_utf8_lossy(&output.stderr));
    let conf = making.join("postgresql.conf");
    let text = fs::read_to_string(&conf).expect("initdb wrote it");
    write_private(&conf, &(text + "\ninclude_if_exists = 'fixture.conf'\n"));
    if fs::rename(&making, &template).is_err() {
        // Another process was quicker.
        let _ = fs::remove_dir_all(&making);
        assert!(template.exists(), "{} could not be made", template.display());
    }
    template
}

/// The folder of the templates; beside the cache where another account has filled that.
fn writable(account: u32) -> PathBuf {
    let name = format!("templates.{account}");
    let folder = [programs::cache().join(&name), std::env::temp_dir().join(format!("walferry-{name}"))]
        .into_iter()
        .find(|folder| fs::create_dir_all(folder).is_ok())
        .expect("the cache or the temporary folder is writable");
    programs::give_to_server_account(&folder);
    folder
}

/// The exact version, since a template of another build may not fit.
fn server_version(programs_folder: &Path) -> String {
    let output =
        Command::new(programs_folder.join("postgres")).arg("--version").output().expect("postgres runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(2).unwrap_or_else(|| panic!("unexpected version line {text:?}")).to_owned()
}
