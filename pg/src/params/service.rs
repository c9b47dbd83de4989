//! Service files: groups of keywords under `[name]`.

use std::path::PathBuf;

use super::Environment;
use super::keyword::Given;
use crate::{Error, Result};

/// Fills in the keywords of the service that `given` or the environment names.
pub(super) fn fill(given: &mut Given, environment: &Environment) -> Result<()> {
    let Some(service) = given.get("service").or_else(|| environment.get("PGSERVICE")).map(str::to_owned)
    else {
        return Ok(());
    };
    let own = given.get("servicefile").or_else(|| environment.get("PGSERVICEFILE")).map(PathBuf::from);
    let own_is_asked_for = own.is_some();
    let system = environment.get("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    let files = [
        own.or_else(|| environment.in_home(".pg_service.conf")),
        Some(PathBuf::from(system).join("pg_service.conf")),
    ];
    for (first, file) in files.into_iter().flatten().enumerate().map(|(n, file)| (n == 0, file)) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(_) if first && own_is_asked_for => {
                return Err(Error::usage(format!("service file \"{}\" cannot be read", file.display())));
            }
            Err(_) => continue,
        };
        if fill_from(&text, &service, given)
            .map_err(|e| e.context(format!("service file \"{}\"", file.display())))?
        {
            return Ok(());
        }
    }
    Err(Error::usage(format!("definition of service \"{service}\" not found"))
        .hint("add it to ~/.pg_service.conf, or point PGSERVICEFILE at the file that has it"))
}

fn fill_from(text: &str, service: &str, given: &mut Given) -> Result<bool> {
    let mut inside = false;
    let mut found = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found {
                break;
            }
            inside = name == service;
            found = inside;
        } else if inside {
            let (keyword, value) =
                line.split_once('=').ok_or_else(|| Error::usage("syntax error: missing \"=\""))?;
            if keyword.trim() == "service" {
                return Err(Error::usage("nested service specifications are not supported"));
            }
            given.fill(keyword.trim(), value.trim())?;
        }
    }
    Ok(found)
}
