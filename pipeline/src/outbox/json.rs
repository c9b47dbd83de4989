//! JSON rewritten in one pass: without white space, and, if wanted, without the members that are null. No tree, and every number and
//! string stays as it was written.

pub(super) use crate::envelope::json::string;

use crate::envelope::json::is_number;

/// Deeper nesting is refused: the walk is recursive.
pub(super) const DEPTH: u32 = 512;

/// Why a text is no JSON. Never quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    #[error("malformed JSON at byte {0}")]
    Malformed(usize),
    #[error("JSON nested more than {DEPTH} deep")]
    Depth,
}

type Result<T> = std::result::Result<T, JsonError>;

/// Appends `text` without white space. `drop_nulls`: members of objects that are null are left out.
pub(super) fn compact(out: &mut Vec<u8>, text: &[u8], drop_nulls: bool) -> Result<()> {
    let mut walk = Walk { text, at: 0, drop_nulls };
    walk.value(out, 0)?;
    walk.end()
}

/// The members of an object: names as they stand between the quotes, values as they stand.
pub(super) fn members(text: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let mut walk = Walk { text, at: 0, drop_nulls: false };
    let mut members = Vec::new();
    let mut nowhere = Vec::new();
    walk.space();
    walk.expect(b'{')?;
    walk.space();
    if walk.peek() == Some(b'}') {
        walk.at += 1;
        return walk.end().map(|()| members);
    }
    loop {
        walk.space();
        let name = walk.string()?;
        walk.space();
        walk.expect(b':')?;
        walk.space();
        let from = walk.at;
        nowhere.clear();
        walk.value(&mut nowhere, 1)?;
        members.push((name, &text[from..walk.at]));
        walk.space();
        match walk.next()? {
            b',' => {}
            b'}' => return walk.end().map(|()| members),
            _ => return Err(JsonError::Malformed(walk.at - 1)),
        }
    }
}

/// The text of a JSON string, or of any other scalar as it is written; None for null, an object or an array.
pub(super) fn text(value: &[u8]) -> Option<Vec<u8>> {
    match value.first()? {
        b'{' | b'[' => None,
        b'n' => None,
        b'"' => unescape(value.get(1..value.len().checked_sub(1)?)?),
        _ => Some(value.to_vec()),
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escape = *text.get(at)?;
        at += 1;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let unit = |at: usize| {
                    let digits = std::str::from_utf8(text.get(at..at + 4)?).ok()?;
                    u16::from_str_radix(digits, 16).ok()
                };
                let mut units = vec![unit(at)?];
                at += 4;
                if (0xd800..0xdc00).contains(&units[0]) && text.get(at..at + 2) == Some(b"\\u") {
                    units.push(unit(at + 2)?);
                    at += 6;
                }
                out.extend_from_slice(String::from_utf16_lossy(&units).as_bytes());
            }
            other => out.push(other),
        }
    }
    Some(out)
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    drop_nulls: bool,
}

impl<'a> Walk<'a> {
    fn malformed<T>(&self) -> Result<T> {
        Err(JsonError::Malformed(self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8> {
        match self.peek() {
            Some(byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => self.malformed(),
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.malformed()
        }
    }

    fn end(&mut self) -> Result<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { self.malformed() }
    }

    /// True: the value is null.
    fn value(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<bool> {
        if depth > DEPTH {
            return Err(JsonError::Depth);
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(out, depth)?,
            Some(b'[') => self.array(out, depth)?,
            Some(b'"') => {
                let from = self.at;
                self.string()?;
                out.extend_from_slice(&self.text[from..self.at]);
            }
            Some(b'n') => {
                self.word(out, b"null")?;
                return Ok(true);
            }
            Some(b't') => self.word(out, b"true")?,
            Some(b'f') => self.word(out, b"false")?,
            Some(b'-' | b'0'..=b'9') => {
                let from = self.at;
                while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
                    self.at += 1;
                }
                let number = &self.text[from..self.at];
                if !is_number(number) {
                    self.at = from;
                    return self.malformed();
                }
                out.extend_from_slice(number);
            }
            _ => return self.malformed(),
        }
        Ok(false)
    }

    fn word(&mut self, out: &mut Vec<u8>, word: &[u8]) -> Result<()> {
        if !self.text[self.at..].starts_with(word) {
            return self.malformed();
        }
        self.at += word.len();
        out.extend_from_slice(word);
        Ok(())
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<()> {
        self.at += 1;
        out.push(b'{');
        let mut first = true;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            out.push(b'}');
            return Ok(());
        }
        loop {
            let before = out.len();
            if !first {
                out.push(b',');
            }
            self.space();
            let from = self.at;
            self.string()?;
            out.extend_from_slice(&self.text[from..self.at]);
            self.space();
            self.expect(b':')?;
            out.push(b':');
            let null = self.value(out, depth + 1)?;
            if null && self.drop_nulls {
                out.truncate(before);
            } else {
                first = false;
            }
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return Err(JsonError::Malformed(self.at - 1)),
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<()> {
        self.at += 1;
        out.push(b'[');
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            out.push(b']');
            return Ok(());
        }
        loop {
            self.value(out, depth + 1)?;
            self.space();
            match self.next()? {
                b',' => out.push(b','),
                b']' => break,
                _ => return Err(JsonError::Malformed(self.at - 1)),
            }
        }
        out.push(b']');
        Ok(())
    }

    /// Passes a string; answers with what is between its quotes.
    fn string(&mut self) -> Result<&'a [u8]> {
        self.expect(b'"')?;
        let from = self.at;
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.next()?.is_ascii_hexdigit() {
                                return Err(JsonError::Malformed(self.at - 1));
                            }
                        }
                    }
                    _ => return Err(JsonError::Malformed(self.at - 1)),
                },
                ..0x20 => return Err(JsonError::Malformed(self.at - 1)),
                _ => {}
            }
        }
        let inside = &self.text[from..self.at - 1];
        if std::str::from_utf8(inside).is_err() {
            return Err(JsonError::Malformed(from));
        }
        Ok(inside)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compacted(text: &str, drop_nulls: bool) -> Result<String> {
        let mut out = Vec::new();
        compact(&mut out, text.as_bytes(), drop_nulls)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn any_json_stays_what_it_is() {
        for (text, expected) in [
            (r#" { "a" : [ 1 , "x" , null ] , "n" : null } "#, r#"{"a":[1,"x",null],"n":null}"#),
            ("[1, \"x\", {\"a\": []}]", "[1,\"x\",{\"a\":[]}]"),
            ("\"str\"", "\"str\""),
            ("12345678901234567890.10", "12345678901234567890.10"),
            ("null", "null"),
            (r#"{"a\"b\u0041": "\\ \/"}"#, r#"{"a\"b\u0041":"\\ \/"}"#),
        ] {
            assert_eq!(compacted(text, false).unwrap(), expected);
        }
    }

    #[test]
    fn members_that_are_null_can_be_left_out() {
        assert_eq!(
            compacted(r#"{"a": null, "b": {"c": null}, "d": [null, {"e": null, "f": 1}], "g": null}"#, true),
            Ok(r#"{"b":{},"d":[null,{"f":1}]}"#.to_owned())
        );
        assert_eq!(compacted("null", true), Ok("null".to_owned()));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1,]",
            "01",
            "1.",
            "tru",
            "\"a",
            "\"\\x\"",
            "\"\n\"",
            "{} {}",
            "'a'",
            "NaN",
        ] {
            assert!(compacted(text, false).is_err(), "{text}");
        }
        assert_eq!(compacted(&"[".repeat(100_000), false), Err(JsonError::Depth));
    }

    #[test]
    fn members_and_their_text() {
        let found =
            members(br#"{"a": "x\u00e9\ud83d\ude00\n", "b": {"c": 1}, "d": 1.50, "e": null, "f": true}"#)
                .unwrap();
        let texts: Vec<_> =
            found.iter().map(|(_, value)| text(value).map(|t| String::from_utf8(t).unwrap())).collect();
        assert_eq!(texts, [Some("xé😀\n".into()), None, Some("1.50".into()), None, Some("true".into())]);
        assert!(members(b"[]").is_err() && members(b"{} x").is_err());
        assert_eq!(members(b" { } "), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn agrees_with_another_parser(text in "[\\[\\]{}:,\"a0-9. ntruefalse\\\\-]{0,24}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match compacted(&text, false) {
                Ok(ours) => {
                    let theirs = theirs.unwrap();
                    prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).unwrap(), theirs);
                }
                // A number out of a double's range is JSON all the same.
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }

        #[test]
        fn strings_come_back(text in "\\PC{0,20}") {
            let mut out = Vec::new();
            string(&mut out, text.as_bytes());
            prop_assert_eq!(super::text(&out).unwrap(), text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
