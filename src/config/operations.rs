//! Kinds of changes that make no event.

use super::Value;

/// Debezium's letters: creates, updates, deletes, truncates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Operations {
    pub create: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
}

impl Operations {
    const EXPECTED: &'static str = "expected none, or some of c, u, d, t with commas between them";
}

impl Value for Operations {
    const KIND: &'static str = "c, u, d, t or none";

    fn read(text: &str) -> Result<Self, String> {
        let mut read = Operations::default();
        let letters: Vec<String> = text.split(',').map(|letter| letter.trim().to_ascii_lowercase()).collect();
        for letter in &letters {
            match letter.as_str() {
                "c" => read.create = true,
                "u" => read.update = true,
                "d" => read.delete = true,
                "t" => read.truncate = true,
                "none" if letters.len() == 1 => {}
                _ => return Err(Self::EXPECTED.to_owned()),
            }
        }
        Ok(read)
    }

    fn show(&self) -> String {
        let kinds =
            [(self.create, "c"), (self.update, "u"), (self.delete, "d"), (self.truncate, "t")].into_iter();
        let letters: Vec<&str> = kinds.filter(|(is, _)| *is).map(|(_, letter)| letter).collect();
        if letters.is_empty() { "none".to_owned() } else { letters.join(",") }
    }

    fn read_list(items: &[String]) -> Result<Self, String> {
        Self::read(&items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_and_shown() {
        for (text, shown) in [("t", "t"), ("none", "none"), ("U, c", "c,u"), ("c,u,d,t", "c,u,d,t")] {
            assert_eq!(Operations::read(text).unwrap().show(), shown, "{text}");
        }
        for text in ["", "x", "none,t"] {
            assert!(Operations::read(text).is_err(), "{text}");
        }
    }
}
