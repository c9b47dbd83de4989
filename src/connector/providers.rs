//! Kafka Connect's config providers: `${env:NAME}`, `${file:PATH:KEY}`, `${directory:PATH:FILE}`.
//!
//! They belong to the worker, which is not there; the three that need nothing but this machine are read as the worker would.

use std::path::Path;

use super::properties;

/// `text` with its references resolved; what is wrong with one never repeats a value.
pub fn resolve(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let reference = &rest[start + 2..start + length];
        out.push_str(&rest[..start]);
        // Without a colon it is no reference: a regular expression's group, as in ${routedByValue}.
        match reference.split_once(':') {
            Some((provider, what)) => out.push_str(&look_up(provider, what, variable)?),
            None => out.push_str(&rest[start..=start + length]),
        }
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(provider: &str, what: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    match provider {
        "env" => {
            // The path is empty, if it is there at all.
            let name = what.rsplit_once(':').map_or(what, |(_, name)| name);
            variable(name).ok_or_else(|| format!("environment variable \"{name}\" is not set"))
        }
        "file" => {
            let (path, key) = what.rsplit_once(':').ok_or("expected ${file:PATH:KEY}")?;
            let text = read(Path::new(path))?;
            let found = properties::read(&text).map_err(|error| format!("{path}: {error}"))?;
            let value = found.into_iter().rev().find(|(name, _)| name == key);
            value.map(|(_, value)| value).ok_or_else(|| format!("\"{path}\" has no key \"{key}\""))
        }
        "directory" => {
            let (path, file) = what.rsplit_once(':').ok_or("expected ${directory:PATH:FILE}")?;
            read(&Path::new(path).join(file))
        }
        other => Err(format!("config provider \"{other}\" is not one of env, file, directory")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("could not read \"{}\": {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_where_this_machine_can_tell() {
        let folder = std::env::temp_dir().join(format!("walferry-providers-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, shown) = (folder.join("db.properties"), folder.display());
        std::fs::write(&file, "user=app\npassword = s\\u003dx\n").unwrap();
        std::fs::write(folder.join("host"), "db.example").unwrap();
        let variable = |name: &str| (name == "PW").then(|| "from env".to_owned());
        let resolved = |text: &str| resolve(text, &variable);
        assert_eq!(resolved("a ${env:PW} ${env::PW} b").unwrap(), "a from env from env b");
        assert_eq!(resolved(&format!("${{file:{}:password}}", file.display())).unwrap(), "s=x");
        assert_eq!(resolved(&format!("${{directory:{shown}:host}}")).unwrap(), "db.example");
        assert_eq!(resolved("outbox.event.${routedByValue}").unwrap(), "outbox.event.${routedByValue}");
        for (text, expected) in [
            ("${env:MISSING}", "environment variable \"MISSING\" is not set"),
            ("${vault:secret/db:password}", "config provider \"vault\" is not one of env, file, directory"),
            ("${file:/nowhere/x:key}", "could not read"),
        ] {
            assert!(resolved(text).unwrap_err().contains(expected), "{text}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
