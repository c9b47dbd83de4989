//! docs/errors.md has every code that the sources give to an error or to a finding, and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;

/// The crates that make errors.
const SOURCES: [&str; 6] = ["src", "pg/src", "pipeline/src", "reader/src", "writer/src", "kafka/src"];
/// How a code is written.
const CODE: &str = r#""([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)""#;
/// Where one stands: what is before it.
const PLACES: [&str; 7] = [
    r"\b(?:refuse|refused|stop|failed|with_code|error)\(\s*(?:Class::\w+,\s*)?",
    r"(?:Error|Self)::new\(\s*[\w:]+,\s*",
    r"Finding::\w+\(\s*[\w:]+,\s*",
    r"const \w+: &str = ",
    r#""code": "#,
    r"unwrap_or_else\(\|\| ",
    // The table of what keeps a connection from being made.
    r"=> \{?\s*\(\s*",
];
/// Words that only look like codes.
const OTHERS: [&str; 9] = [
    "CARGO_PKG_VERSION",
    "EXPORT_SNAPSHOT",
    "IDENTIFY_SYSTEM",
    "LC_ALL",
    "NOEXPORT_SNAPSHOT",
    "PGCONNECT_TIMEOUT",
    "SASL_PLAINTEXT",
    "SASL_SSL",
    "SQL_ASCII",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            files(&path, found);
        } else if name.ends_with(".rs") && !["tests.rs", "codes.rs"].contains(&name) {
            found.push(path);
        }
    }
}

/// Without the tests, which make up their own.
fn sources() -> String {
    let mut found = Vec::new();
    for folder in SOURCES {
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    let texts = found.iter().map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        text[..end].to_owned()
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let regex = Regex::new(pattern).unwrap();
    regex.captures_iter(text).map(|found| found.unwrap().get(1).unwrap().as_str().to_owned()).collect()
}

/// A SQLSTATE is PostgreSQL's.
fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.contains(|c: char| c.is_ascii_digit())
}

#[test]
fn every_code_is_explained_and_every_explained_one_is_given() {
    let sources = sources();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = std::fs::read_to_string(page).unwrap();
    let explained = all(r"(?m)^\| `([A-Z][A-Z0-9_]*)` \|", &page);
    let written = all(CODE, &sources);
    let mut given: BTreeSet<String> =
        PLACES.iter().flat_map(|place| all(&format!("{place}{CODE}"), &sources)).collect();
    // A code may come by another way: a word with an underscore is one until it is told to be something else.
    given.extend(written.iter().filter(|word| word.contains('_')).cloned());
    given.retain(|code| {
        !is_sqlstate(code) && !code.starts_with("WALFERRY_") && !OTHERS.contains(&code.as_str())
    });
    assert!(given.len() > 150, "the patterns find the codes no more: {given:?}");
    let missing: Vec<_> = given.difference(&explained).collect();
    assert!(missing.is_empty(), "docs/errors.md does not explain {missing:?}");
    let gone: Vec<_> = explained.difference(&written).collect();
    assert!(gone.is_empty(), "docs/errors.md explains what nothing gives: {gone:?}");
}

#[test]
fn the_page_is_one_table_in_order() {
    let page = include_str!("../../docs/errors.md");
    let rows: Vec<&str> = page.lines().skip_while(|line| !line.starts_with("|---")).skip(1).collect();
    let codes: Vec<&str> = rows.iter().take_while(|row| row.starts_with('|')).copied().collect();
    assert!(
        rows[codes.len()..].iter().all(|line| !line.starts_with('|')),
        "a row stands outside of the table"
    );
    for row in &codes {
        assert_eq!(row.matches(" | ").count(), 3, "{row}");
    }
    let names: Vec<&str> = codes.iter().filter_map(|row| row.split('`').nth(1)).collect();
    assert!(names.is_sorted(), "the codes are not in order");
}
