//! The tables as a page of docs/debezium.md.

use super::property::{Property, Verdict};

/// A table in Markdown: property, what becomes of it, how.
#[must_use]
pub fn page(properties: &[Property]) -> String {
    let mut page = "| property | | what becomes of it |\n|---|---|---|\n".to_owned();
    for property in properties {
        let how = match &property.verdict {
            Verdict::Sets { key, default: Some(default), .. } => {
                format!("`{key}`; without it `{default}`, Debezium's default. ")
            }
            Verdict::Sets { key, default: None, .. } => format!("`{key}`. "),
            Verdict::Connects(keyword) => format!("`{keyword}` of the connection `source`. "),
            Verdict::Only(words) => format!("only `{}`. ", words.join("` or `")),
            Verdict::SetsAll(_) | Verdict::Taken | Verdict::NotApplicable | Verdict::Refused => String::new(),
        };
        let note =
            if property.note.is_empty() { String::new() } else { format!("{}.", capital(property.note)) };
        let cell = format!("{how}{note}").replace('|', "\\|");
        page.push_str(&format!(
            "| `{}` | {} | {} |\n",
            property.name,
            property.verdict.word(),
            cell.trim_end()
        ));
    }
    page
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
