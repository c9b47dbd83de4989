//! JSON written straight into a buffer, escaped as Jackson does it (Kafka Connect's JsonConverter): only what must be.

pub(crate) mod read;

/// Appends `text` as a JSON string. Bytes that are no UTF-8 become U+FFFD (client_encoding is UTF8, so the server sends none).
pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// The inside of a JSON string.
pub(crate) fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut from = 0;
        for (at, &byte) in valid.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            out.extend_from_slice(&valid[from..at]);
            from = at + 1;
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0x08 => out.extend_from_slice(b"\\b"),
                0x0c => out.extend_from_slice(b"\\f"),
                control => {
                    out.extend_from_slice(b"\\u00");
                    for nibble in [control >> 4, control & 15] {
                        out.push(b"0123456789ABCDEF"[usize::from(nibble)]);
                    }
                }
            }
        }
        out.extend_from_slice(&valid[from..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends what `Display` writes; integers and LSNs, without an allocation.
pub(crate) fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write;
    // A Vec takes everything.
    let _ = write!(out, "{value}");
}

/// A JSON string of what `Display` writes; only for text that needs no escape.
pub(crate) fn quoted(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    out.push(b'"');
    display(out, value);
    out.push(b'"');
}

/// `text` is a number in JSON's grammar.
pub(crate) fn is_number(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', exponent @ ..] => exponent,
            exponent => exponent,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_from_any_json_parser() {
        for text in ["", "a\"b\\c", "\u{0}\u{1f}\u{7f}\u{2028}😀ž", "\n\r\t\u{8}\u{c}/"] {
            let mut out = Vec::new();
            string(&mut out, text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        let mut out = Vec::new();
        string(&mut out, b"\x01\xff/\x1f");
        assert_eq!(out, "\"\\u0001\u{fffd}/\\u001F\"".as_bytes());
    }

    #[test]
    fn numbers_are_json_numbers() {
        for text in ["0", "-0", "10", "1.5", "-1e-10", "1e+300", "0.001", "1E5"] {
            assert!(is_number(text.as_bytes()), "{text}");
            serde_json::from_str::<f64>(text).unwrap();
        }
        for text in ["", "-", "01", "+1", ".5", "1.", "1e", "1e+", "NaN", "Infinity", "1 ", "0x1", "1.e1"] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }
}
