//! Lists of regular expressions for names, as Debezium's connectors take them.
//!
//! An expression has to match a whole name and knows no case (Java's `Matcher.matches` with CASE_INSENSITIVE). A comma separates two of
//! them; one that belongs to an expression is written `\,`.

use fancy_regex::Regex;

use super::Value;

/// Some expressions; none of them: nothing was asked for.
#[derive(Clone, Debug, Default)]
pub struct Expressions {
    text: String,
    compiled: Vec<Regex>,
}

impl Expressions {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.compiled.is_empty()
    }

    /// Does one of them match all of the name? An expression that gives up on a name does not.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.compiled.iter().any(|one| one.is_match(name).unwrap_or(false))
    }
}

impl Value for Expressions {
    const KIND: &'static str = "regular expressions";

    fn read(text: &str) -> Result<Self, String> {
        let mut compiled = Vec::new();
        for (at, one) in split(text)?.iter().enumerate() {
            let whole = Regex::new(&format!(r"(?i)\A(?:{})\z", unquoted(one)));
            compiled.push(whole.map_err(|_| {
                format!("expected regular expressions with a comma between them; number {} is none", at + 1)
            })?);
        }
        Ok(Expressions { text: text.to_owned(), compiled })
    }

    fn show(&self) -> String {
        self.text.clone()
    }

    fn read_list(items: &[String]) -> Result<Self, String> {
        Self::read(&items.join(","))
    }
}

/// At every comma without a backslash.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == ',' {
            parts.push(String::new());
            continue;
        }
        let Some(part) = parts.last_mut() else { continue };
        if c != '\\' {
            part.push(c);
            continue;
        }
        match chars.next() {
            Some(',') => part.push(','),
            Some(next) => part.extend(['\\', next]),
            None => return Err("expected something behind the backslash at the end".to_owned()),
        }
    }
    Ok(parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
}

/// Java's `\Q…\E`, which takes everything between as it is.
fn unquoted(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression;
    while let Some((before, quoted)) = rest.split_once(r"\Q") {
        let (text, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        out.push_str(before);
        out.push_str(&fancy_regex::escape(text));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_a_whole_name_and_knows_no_case() {
        let list = Expressions::read(r"public\.ord.*, Inventory.[a-c]{1\,2} ,\Qa.b\E,(?!x)y.").unwrap();
        for name in ["public.orders", "PUBLIC.ORD", "inventory.ab", "a.b", "y1"] {
            assert!(list.matches(name), "{name}");
        }
        for name in ["xpublic.orders", "public_orders", "inventory.abc", "inventory.d", "axb", "y", "y12"] {
            assert!(!list.matches(name), "{name}");
        }
        assert_eq!(list.show(), r"public\.ord.*, Inventory.[a-c]{1\,2} ,\Qa.b\E,(?!x)y.");
        assert!(Expressions::read("").unwrap().is_empty() && Expressions::read(" , ").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_expression_is_refused_without_being_repeated() {
        let error = Expressions::read("a,(s3cret").unwrap_err();
        assert!(error.contains("number 2") && !error.contains("s3cret"), "{error}");
        assert!(Expressions::read("a\\").is_err());
    }
}
