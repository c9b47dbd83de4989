//! Is one value kept whole by a column that keeps less than its source's?

use super::decimal::Decimal;

/// A kind of loss, and from where on it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// Digits after the point; negative: zeros before it.
    Scale(i32),
    /// Digits of a second.
    Fraction(usize),
    /// No time of day.
    Date,
    /// A float of half the size: most doubles that print alike are others.
    Half,
    Single,
    Double,
    Bytes(usize),
    /// What is longer is refused, but for blanks at the end.
    Characters(usize),
    NoBlankAtEnd,
    /// Every value loses something.
    Nothing,
}

impl Limit {
    /// Is this value, as text, kept whole? True as well for what can't be read.
    pub(super) fn holds(self, text: &[u8]) -> bool {
        match self {
            Limit::Scale(scale) => {
                Decimal::read(text).is_none_or(|number| number.digits.is_empty() || number.exponent >= -scale)
            }
            Limit::Fraction(digits) => {
                let fraction =
                    text.iter().position(|byte| *byte == b'.').map_or(&[][..], |at| &text[at + 1..]);
                let fraction = fraction.iter().take_while(|byte| byte.is_ascii_digit());
                fraction.skip(digits).all(|digit| *digit == b'0')
            }
            Limit::Date => {
                let time = text
                    .iter()
                    .position(|byte| matches!(byte, b' ' | b'T'))
                    .map_or(&[][..], |at| &text[at + 1..]);
                let mut time = time.iter().take_while(|byte| !matches!(byte, b'+' | b'-' | b' '));
                time.all(|byte| !(b'1'..=b'9').contains(byte))
            }
            Limit::Half => {
                let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
                value.is_none_or(|value| !value.is_finite() || f64::from(value as f32) == value)
            }
            // Exactly, or as the shortest text that stands for the same float: that is what the server prints.
            Limit::Single => float::<f32>(
                text,
                f32::is_finite,
                [|value| format!("{value:e}"), |value| format!("{value:.150}")],
            ),
            Limit::Double => float::<f64>(
                text,
                f64::is_finite,
                [|value| format!("{value:e}"), |value| format!("{value:.1075}")],
            ),
            Limit::Bytes(most) => text.len() <= most,
            Limit::Characters(most) => {
                let starts = text.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80);
                let rest = starts.map(|(at, _)| at).nth(most).map_or(&[][..], |at| &text[at..]);
                rest.is_empty() || rest.iter().any(|byte| *byte != b' ')
            }
            Limit::NoBlankAtEnd => text.last() != Some(&b' '),
            Limit::Nothing => false,
        }
    }
}

fn float<F: std::str::FromStr + Copy>(
    text: &[u8],
    finite: fn(F) -> bool,
    spellings: [fn(F) -> String; 2],
) -> bool {
    let Some(number) = Decimal::read(text) else { return true };
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<F>().ok());
    let Some(value) = value.filter(|value| finite(*value)) else { return true };
    spellings.iter().any(|spelling| Decimal::read(spelling(value).as_bytes()).as_ref() == Some(&number))
}
