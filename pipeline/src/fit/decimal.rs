//! Numbers as PostgreSQL prints them, compared by their digits.

/// A decimal number in the one form that it has without zeros at either end.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Decimal {
    negative: bool,
    pub(super) digits: Vec<u8>,
    /// Of the last digit: 0 stands before the point. Zero has no digits, and an exponent of 0.
    pub(super) exponent: i32,
}

impl Decimal {
    pub(super) fn read(text: &[u8]) -> Option<Decimal> {
        let (negative, text) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let point = mantissa.iter().position(|byte| *byte == b'.');
        let after = point.map_or(0, |at| mantissa.len() - at - 1);
        let mut digits: Vec<u8> = mantissa.iter().copied().filter(|byte| *byte != b'.').collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || digits.len() + 1 < mantissa.len() {
            return None;
        }
        let mut exponent = exponent.checked_sub(i32::try_from(after).ok()?)?;
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent = exponent.checked_add(1)?;
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Some(Decimal { negative: false, digits, exponent: 0 });
        }
        Some(Decimal { negative, digits, exponent })
    }
}
