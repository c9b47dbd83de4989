//! numeric and money: the unscaled value as big-endian two's complement, in base64 (Kafka Connect's Decimal).

use std::borrow::Cow;

use super::Wrong;
use crate::envelope::json;
use crate::envelope::json::read::Value;
use crate::envelope::value::base64;

const MALFORMED: Wrong = "a malformed number";

/// `$1,234.50`, `-$0.01` without sign and commas.
pub(super) fn plain_money(text: &[u8]) -> Cow<'_, [u8]> {
    Cow::Owned(text.iter().copied().filter(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')).collect())
}

/// Appends a decimal of this scale. NaN and the infinities, which have no unscaled value, as strings.
pub(super) fn write(out: &mut Vec<u8>, text: &[u8], scale: i32, money: bool) -> Result<(), Wrong> {
    let text = if money { plain_money(text) } else { Cow::Borrowed(text) };
    if is_special(&text) {
        json::string(out, &text);
        return Ok(());
    }
    let (unscaled, digits) = unscaled(&text)?;
    write_unscaled(out, &rescaled(unscaled, digits, scale)?)
}

/// Appends `{"scale":…,"value":…}`.
pub(super) fn write_variable(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    if is_special(text) {
        json::string(out, text);
        return Ok(());
    }
    let (unscaled, scale) = unscaled(text)?;
    json::display(out, format_args!("{{\"scale\":{scale},\"value\":"));
    write_unscaled(out, &unscaled)?;
    out.push(b'}');
    Ok(())
}

fn is_special(text: &[u8]) -> bool {
    matches!(text, b"NaN" | b"Infinity" | b"-Infinity")
}

/// Sign and digits without the point, and how many digits stood after it.
fn unscaled(text: &[u8]) -> Result<(Vec<u8>, i32), Wrong> {
    if !json::is_number(text) || text.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return Err(MALFORMED);
    }
    let point = text.iter().position(|byte| *byte == b'.');
    let scale = point.map_or(0, |point| text.len() - point - 1);
    Ok((text.iter().copied().filter(|byte| *byte != b'.').collect(), scale as i32))
}

/// Digits after the point as the type says; PostgreSQL's output has them already, but for a negative scale.
fn rescaled(mut unscaled: Vec<u8>, digits: i32, scale: i32) -> Result<Vec<u8>, Wrong> {
    if !unscaled.iter().any(|digit| matches!(digit, b'1'..=b'9')) {
        return Ok(b"0".to_vec());
    }
    unscaled.extend((digits..scale).map(|_| b'0'));
    for _ in scale..digits {
        if unscaled.pop_if(|digit| *digit == b'0').is_none() {
            return Err("a number with more digits than its type's scale");
        }
    }
    Ok(unscaled)
}

fn write_unscaled(out: &mut Vec<u8>, unscaled: &[u8]) -> Result<(), Wrong> {
    let (negative, digits) = match unscaled {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    out.push(b'"');
    base64::write(out, &complement(magnitude(digits).ok_or(MALFORMED)?, negative));
    out.push(b'"');
    Ok(())
}

/// Big-endian bytes of a decimal number, without leading zeros; at least one.
fn magnitude(digits: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = match std::str::from_utf8(digits).ok()?.parse::<u128>() {
        Ok(number) => number.to_be_bytes().to_vec(),
        // Beyond 38 digits: base 2^32, nine digits at a time.
        Err(_) => {
            let mut words: Vec<u32> = Vec::new();
            for chunk in digits.chunks(9) {
                let mut carry: u64 = std::str::from_utf8(chunk).ok()?.parse().ok()?;
                let factor = 10_u64.pow(chunk.len() as u32);
                for word in &mut words {
                    let sum = u64::from(*word) * factor + carry;
                    *word = sum as u32;
                    carry = sum >> 32;
                }
                if carry > 0 {
                    words.push(carry as u32);
                }
            }
            words.iter().rev().flat_map(|word| word.to_be_bytes()).collect()
        }
    };
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
    bytes.drain(..zeros);
    Some(bytes)
}

/// The shortest two's complement, as Java's BigInteger.
fn complement(mut bytes: Vec<u8>, negative: bool) -> Vec<u8> {
    let zero = bytes.iter().all(|byte| *byte == 0);
    if negative && !zero {
        negate(&mut bytes);
        if bytes[0] & 0x80 == 0 {
            bytes.insert(0, 0xff);
        }
    } else if bytes[0] & 0x80 != 0 {
        bytes.insert(0, 0);
    }
    bytes
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
        *byte = sum;
        carry = over;
    }
}

/// The text of an unscaled value (base64); of a special value: itself.
pub(super) fn read(text: &str, scale: i32) -> Result<String, Wrong> {
    if is_special(text.as_bytes()) {
        return Ok(text.to_owned());
    }
    if scale.unsigned_abs() > 20_000 {
        return Err("a scale that no number has");
    }
    let mut bytes =
        base64::read(text).filter(|bytes| !bytes.is_empty()).ok_or("an unscaled value that is no base64")?;
    // PostgreSQL's numeric ends there.
    if bytes.len() > 65_536 {
        return Err("a number beyond PostgreSQL's");
    }
    let negative = bytes[0] & 0x80 != 0;
    if negative {
        negate(&mut bytes);
    }
    let mut digits = decimal_digits(&bytes);
    if scale < 0 && digits != "0" {
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
    }
    let scale = scale.max(0) as usize;
    if digits.len() <= scale {
        digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
    }
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    if negative {
        digits.insert(0, '-');
    }
    Ok(digits)
}

pub(super) fn read_variable(value: &Value<'_>) -> Result<String, Wrong> {
    let scale = value.get("scale").and_then(Value::number).ok_or("a number without \"scale\"")?;
    read(value.get("value").and_then(Value::as_str).ok_or("a number without \"value\"")?, scale)
}

/// Decimal digits of a big-endian number.
fn decimal_digits(bytes: &[u8]) -> String {
    let mut words: Vec<u32> = bytes
        .rchunks(4)
        .map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        .collect();
    let mut groups = Vec::new();
    while words.iter().any(|word| *word != 0) {
        let mut rest = 0_u64;
        for word in words.iter_mut().rev() {
            let value = rest << 32 | u64::from(*word);
            *word = (value / 1_000_000_000) as u32;
            rest = value % 1_000_000_000;
        }
        groups.push(rest);
        while words.last() == Some(&0) {
            words.pop();
        }
    }
    let Some(first) = groups.pop() else { return "0".to_owned() };
    let mut digits = first.to_string();
    for group in groups.iter().rev() {
        digits.push_str(&format!("{group:09}"));
    }
    digits
}
