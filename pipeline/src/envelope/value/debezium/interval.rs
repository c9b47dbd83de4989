//! interval, in the server's style `postgres`: `1 year 2 mons -3 days +04:05:06.78`.

use super::Wrong;
use crate::envelope::json;

const MALFORMED: Wrong = "a malformed interval";
const DAY: i128 = 86_400_000_000;
/// 365.25 / 12 days.
const MONTH: i128 = 2_629_800_000_000;

#[derive(Default)]
struct Parts {
    years: i64,
    months: i64,
    days: i64,
    /// Microseconds.
    time: i128,
}

fn parse(text: &[u8]) -> Result<Parts, Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let mut parts = Parts::default();
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            parts.time = time(word).ok_or(MALFORMED)?;
            continue;
        }
        let number: i64 = word.parse().map_err(|_| MALFORMED)?;
        match words.next() {
            Some("year" | "years") => parts.years = number,
            Some("mon" | "mons") => parts.months = number,
            Some("day" | "days") => parts.days = number,
            _ => return Err(MALFORMED),
        }
    }
    Ok(parts)
}

fn time(word: &str) -> Option<i128> {
    let (negative, word) = match word.strip_prefix('-') {
        Some(word) => (true, word),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let mut fields = word.split(':');
    let hours: i128 = fields.next()?.parse().ok()?;
    let minutes: i128 = fields.next()?.parse().ok()?;
    let (seconds, fraction) = super::time::seconds(fields.next()?)?;
    let micros = ((hours * 60 + minutes) * 60 + i128::from(seconds)) * 1_000_000 + i128::from(fraction);
    fields.next().is_none().then_some(if negative { -micros } else { micros })
}

/// Appends microseconds; a month has 30.4375 days. An infinite one (17 and later) is a string.
pub(super) fn write_micros(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    if matches!(text, b"infinity" | b"-infinity") {
        json::string(out, text);
        return Ok(());
    }
    let parts = parse(text)?;
    let months = i128::from(parts.years) * 12 + i128::from(parts.months);
    json::display(out, months * MONTH + i128::from(parts.days) * DAY + parts.time);
    Ok(())
}

/// Appends `P1Y2M3DT4H5M6.78S`.
pub(super) fn write_iso(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    if matches!(text, b"infinity" | b"-infinity") {
        json::string(out, text);
        return Ok(());
    }
    let Parts { years, months, days, time } = parse(text)?;
    let sign = if time < 0 { "-" } else { "" };
    let micros = time.unsigned_abs();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let signed = |number: u128| if number == 0 { "0".to_owned() } else { format!("{sign}{number}") };
    let fraction = format!(".{fraction:06}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let seconds = if seconds == 0 && !fraction.is_empty() { format!("{sign}0") } else { signed(seconds) };
    json::display(
        out,
        format_args!(
            "\"P{years}Y{months}M{days}DT{}H{}M{seconds}{fraction}S\"",
            signed(hours),
            signed(minutes)
        ),
    );
    Ok(())
}
