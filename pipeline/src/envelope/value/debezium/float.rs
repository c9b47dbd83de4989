//! Floats as Java prints them: Kafka Connect's JSON holds Java's text.

use super::Wrong;
use crate::envelope::json;

const MALFORMED: Wrong = "a malformed number";

pub(super) fn write8(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let value: f64 = text.parse().map_err(|_| MALFORMED)?;
    if value.is_finite() {
        java(out, value.is_sign_negative(), &format!("{:e}", value.abs()), value.abs() == f64::from_bits(1));
    } else {
        json::string(out, text.as_bytes());
    }
    Ok(())
}

pub(super) fn write4(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let value: f32 = text.parse().map_err(|_| MALFORMED)?;
    if value.is_finite() {
        java(out, value.is_sign_negative(), &format!("{:e}", value.abs()), false);
    } else {
        json::string(out, text.as_bytes());
    }
    Ok(())
}

/// Appends `shortest` (`d.ddde±x`) in the form of `Double.toString`: plain from 10^-3 to 10^7, with an `E` beyond, always with a point.
fn java(out: &mut Vec<u8>, negative: bool, shortest: &str, least: bool) {
    if negative {
        out.push(b'-');
    }
    // Java has two digits at least, and picks the nearest of those.
    let (digits, exponent) =
        if least { ("4.9", "-324") } else { shortest.split_once('e').unwrap_or((shortest, "0")) };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_digit).collect();
    let zero = digits == b"0";
    let digit = |at: i32| match usize::try_from(at) {
        Ok(at) => digits.get(at).copied().unwrap_or(b'0'),
        Err(_) => b'0',
    };
    if zero || (-3..7).contains(&exponent) {
        // Below 1 the first digit stands `-exponent` places after the point.
        if exponent < 0 {
            out.push(b'0');
        }
        out.extend((0..=exponent).map(digit));
        out.push(b'.');
        let start = exponent + 1;
        out.extend((start..(digits.len() as i32).max(start + 1)).map(digit));
    } else {
        out.push(digit(0));
        out.push(b'.');
        out.extend((1..(digits.len() as i32).max(2)).map(digit));
        json::display(out, format_args!("E{exponent}"));
    }
}
