//! Base64, with padding (<https://www.rfc-editor.org/rfc/rfc4648>).

/// Appends standard base64 with padding.
pub(in crate::envelope) fn write(out: &mut Vec<u8>, bytes: &[u8]) {
    write_with(out, bytes, *b"+/");
}

/// Appends base64; `last` are the digits 62 and 63.
pub(super) fn write_with(out: &mut Vec<u8>, bytes: &[u8], last: [u8; 2]) {
    let digit = |value: u32| match (value & 63) as u8 {
        value @ 0..26 => b'A' + value,
        value @ 26..52 => b'a' + value - 26,
        value @ 52..62 => b'0' + value - 52,
        62 => last[0],
        _ => last[1],
    };
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            out.push(if place <= chunk.len() { digit(group >> (18 - 6 * place)) } else { b'=' });
        }
    }
}

/// Reads base64 of either alphabet; None: it is not exactly that.
pub(in crate::envelope) fn read(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        let bytes = bits.to_be_bytes();
        let count = group.len() - 1;
        // What the last digit says beyond the last byte must be nothing.
        if bytes[1 + count..].iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(&bytes[1..1 + count]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("hello", "aGVsbG8=")]
        {
            let mut out = Vec::new();
            write(&mut out, bytes.as_bytes());
            assert_eq!(out, expected.as_bytes());
        }
        let mut out = Vec::new();
        write_with(&mut out, &[0xfb, 0xff], *b"-_");
        assert_eq!(out, b"-_8=");
        for text in ["", "Zg==", "Zm8=", "Zm9v", "+/8="] {
            let bytes = read(text).unwrap();
            let mut out = Vec::new();
            write(&mut out, &bytes);
            assert_eq!(out, text.as_bytes());
        }
        assert_eq!(read("-_8="), read("+/8="));
        for text in ["Z", "Zg", "Zg=", "=g==", "Zg==Zg==", "Z===", "é===", "Zh=="] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
