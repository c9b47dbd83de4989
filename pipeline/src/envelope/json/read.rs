//! JSON read, with limits: a topic is written by whoever may write to it, a payload by whoever may write an event.
//!
//! Numbers keep their text (a float's shortest form must come back as it was), strings borrow where nothing is escaped.

use std::borrow::Cow;

/// Deeper nesting is refused: no event of ours or Debezium's comes near it.
const DEPTH: u32 = 64;
/// More values in one message are refused: a tree costs many times its text.
const NODES: u32 = 4_000_000;
/// Room that an object's members have at first: most images and the blocks around them are smaller.
const MEMBERS: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// In JSON's grammar.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    /// In the order of the text.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Why a text is no JSON, or one that is refused. Never quotes the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum JsonError {
    #[error("malformed JSON at byte {0}")]
    Malformed(usize),
    #[error("JSON nested more than {0} deep")]
    Depth(u32),
    #[error("JSON with more than {NODES} values")]
    Nodes,
    #[error("not UTF-8")]
    Encoding,
}

type Result<T> = std::result::Result<T, JsonError>;

impl<'a> Value<'a> {
    /// Reads the whole of `text`.
    pub(crate) fn read(text: &'a [u8]) -> Result<Value<'a>> {
        Value::read_within(text, DEPTH)
    }

    /// Reads the whole of `text`, nested so deep at most.
    pub(crate) fn read_within(text: &'a [u8], depth: u32) -> Result<Value<'a>> {
        let text = std::str::from_utf8(text).map_err(|_| JsonError::Encoding)?;
        let mut reader = Reader { text, at: 0, nodes: 0, depth };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(reader.malformed()) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        match self {
            Value::Object(members) => members.iter().find(|(other, _)| other == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Value::Null
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self) -> Option<T> {
        match self {
            Value::Number(text) => text.parse().ok(),
            _ => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: u32,
    /// Deeper nesting is refused.
    depth: u32,
}

impl<'a> Reader<'a> {
    fn malformed(&self) -> JsonError {
        JsonError::Malformed(self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.malformed());
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.malformed());
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: u32) -> Result<Value<'a>> {
        if depth > self.depth {
            return Err(JsonError::Depth(self.depth));
        }
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(JsonError::Nodes);
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.number().map(Value::Number),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Value<'a>> {
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(Vec::new()));
        }
        let mut members = Vec::with_capacity(MEMBERS);
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            let value = self.value(depth + 1)?;
            members.push((name, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.malformed()),
            }
        }
        self.at += 1;
        Ok(Value::Object(members))
    }

    fn array(&mut self, depth: u32) -> Result<Value<'a>> {
        self.expect(b'[')?;
        let mut elements = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.malformed()),
            }
        }
        self.at += 1;
        Ok(Value::Array(elements))
    }

    fn number(&mut self) -> Result<&'a str> {
        let rest = &self.text[self.at..];
        let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let end = rest.bytes().position(|byte| !part(&byte)).unwrap_or(rest.len());
        if !super::is_number(&rest.as_bytes()[..end]) {
            return Err(self.malformed());
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let text = self.text;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut from = start;
        loop {
            let rest = &text.as_bytes()[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            self.at += plain.unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let out = owned.get_or_insert_with(String::new);
                    out.push_str(&text[from..self.at]);
                    self.at += 1;
                    let escaped = self.escape()?;
                    if let Some(out) = &mut owned {
                        out.push(escaped);
                    }
                    from = self.at;
                }
                _ => return Err(self.malformed()),
            }
        }
        let rest = &text[from..self.at];
        self.at += 1;
        Ok(match owned {
            Some(mut out) => {
                out.push_str(rest);
                Cow::Owned(out)
            }
            None => Cow::Borrowed(rest),
        })
    }

    fn escape(&mut self) -> Result<char> {
        let kind = self.peek().ok_or_else(|| self.malformed())?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    0xD800..0xDC00 => {
                        self.expect(b'\\')?;
                        self.expect(b'u')?;
                        let second = self.hex()?;
                        if !(0xDC00..0xE000).contains(&second) {
                            return Err(self.malformed());
                        }
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    code => code,
                };
                char::from_u32(code).ok_or_else(|| self.malformed())?
            }
            _ => return Err(self.malformed()),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or_else(|| self.malformed())?;
        let mut code = 0;
        for digit in digits {
            code = code << 4 | char::from(*digit).to_digit(16).ok_or_else(|| self.malformed())?;
        }
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_apart() {
        let text = r#" {"a":[1,-2.5e+3,null,true,false,{}],"b":"x\n\u00e9\ud83d\ude00\""} "#;
        let value = Value::read(text.as_bytes()).unwrap();
        assert_eq!(value.get("a").unwrap().clone(), {
            let numbers = [Value::Number("1"), Value::Number("-2.5e+3")];
            let rest = [Value::Null, Value::Bool(true), Value::Bool(false), Value::Object(vec![])];
            Value::Array(numbers.into_iter().chain(rest).collect())
        });
        assert_eq!(value.get("b").unwrap().as_str(), Some("x\né😀\""));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\u12\"",
            "01",
            "tru",
            "1 2",
            "\"\\ud800\\u0041\"",
            "\"é",
            "nul",
            "\"\\",
            "\"\\u",
            "-",
            "[",
            "\u{feff}1",
        ] {
            assert!(matches!(Value::read(text.as_bytes()), Err(JsonError::Malformed(_))), "{text}");
        }
        assert_eq!(Value::read(b"\"\xff\""), Err(JsonError::Encoding));
        assert_eq!(Value::read("[".repeat(100_000).as_bytes()), Err(JsonError::Depth(DEPTH)));
        let many = format!("[{}0]", "0,".repeat(NODES as usize));
        assert_eq!(Value::read(many.as_bytes()), Err(JsonError::Nodes));
    }
}
