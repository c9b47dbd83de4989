//! What the pages say of files: that they are there.

use std::path::Path;

/// Words in backticks that name a file or a folder of the sources.
fn named(page: &str) -> Vec<&str> {
    const FOLDERS: [&str; 8] =
        ["run/", "src/", "pg/src", "pipeline/src", "reader/src", "writer/src", "kafka/src", "inbox/src"];
    let words = page.split('`').skip(1).step_by(2);
    words
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains(['*', ' ']))
        .collect()
}

#[test]
fn files_that_the_pages_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for page in ["guarantees", "architecture", "kafka", "deep-dive", "verify", "wire"] {
        let text = std::fs::read_to_string(root.join(format!("docs/{page}.md"))).unwrap();
        for name in named(&text) {
            seen += 1;
            assert!(
                root.join(name).exists() || root.join("src").join(name).exists(),
                "docs/{page}.md names {name}, which is not there"
            );
        }
    }
    assert!(seen > 50, "{seen}: the pages name files in another way now");
}
