//! date, time, timestamp and those with a time zone.

use super::Wrong;
use super::calendar::{date, days};
use crate::envelope::json;
use crate::envelope::json::read::Value;
use crate::envelope::options::TimePrecision;

const MALFORMED: Wrong = "a malformed date or time";
const OTHER: Wrong = "a date or time in another encoding: time.precision.mode differs";
const DAY: i64 = 86_400_000_000;
/// What Debezium writes for an infinite timestamp, in microseconds.
const INFINITY: i64 = 9_223_372_036_825_200_000;
const MINUS_INFINITY: i64 = -9_223_372_036_832_400_000;

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::envelope) enum Unit {
    /// Since 1970 (dates); Connect's own types in mode `connect`.
    Days {
        connect: bool,
    },
    Millis {
        connect: bool,
    },
    Micros,
    Nanos,
    /// No number: ISO 8601.
    Iso,
}

impl Unit {
    pub(super) fn of_date(mode: TimePrecision) -> Unit {
        match mode {
            TimePrecision::Isostring => Unit::Iso,
            mode => Unit::Days { connect: mode == TimePrecision::Connect },
        }
    }

    pub(super) fn of_time(mode: TimePrecision, digits: usize) -> Unit {
        match mode {
            TimePrecision::AdaptiveTimeMicroseconds => Unit::Micros,
            mode => Unit::of_timestamp(mode, digits),
        }
    }

    pub(super) fn of_timestamp(mode: TimePrecision, digits: usize) -> Unit {
        match mode {
            TimePrecision::Connect => Unit::Millis { connect: true },
            TimePrecision::Isostring => Unit::Iso,
            TimePrecision::Microseconds => Unit::Micros,
            TimePrecision::Nanoseconds => Unit::Nanos,
            TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds => {
                if digits <= 3 {
                    Unit::Millis { connect: false }
                } else {
                    Unit::Micros
                }
            }
        }
    }

    /// Of a number of microseconds.
    fn count(self, micros: i128) -> i128 {
        match self {
            Unit::Days { .. } => micros.div_euclid(i128::from(DAY)),
            Unit::Millis { .. } => micros.div_euclid(1000),
            Unit::Micros | Unit::Iso => micros,
            Unit::Nanos => micros * 1000,
        }
    }

    fn is_infinite(self, count: i64) -> bool {
        [INFINITY, MINUS_INFINITY]
            .iter()
            .any(|infinity| self.count(i128::from(*infinity)) == i128::from(count))
    }

    fn micros(self, count: i64) -> Result<i64, Wrong> {
        let micros = match self {
            Unit::Days { .. } => count.checked_mul(DAY),
            Unit::Millis { .. } => count.checked_mul(1000),
            Unit::Micros | Unit::Iso => Some(count),
            Unit::Nanos => Some(count.div_euclid(1000)),
        };
        micros.ok_or("a date or time out of range")
    }
}

/// `06.78` as seconds and microseconds.
pub(super) fn seconds(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some((whole.parse().ok()?, micros))
}

/// `HH:MM:SS[.f]` in microseconds.
fn time_of_day(text: &str) -> Option<i64> {
    let mut fields = text.split(':');
    let hours: i64 = fields.next()?.parse().ok()?;
    let minutes: i64 = fields.next()?.parse().ok()?;
    let (seconds, micros) = seconds(fields.next()?)?;
    let valid = fields.next().is_none()
        && (0..=24).contains(&hours)
        && (0..60).contains(&minutes)
        && (0..=60).contains(&seconds);
    valid.then_some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// `YYYY-MM-DD` in days, its year counted before Christ if `bc`.
fn day(text: &str, bc: bool) -> Option<i64> {
    let mut fields = text.split('-');
    let year: i64 = fields.next()?.parse().ok()?;
    let month: i64 = fields.next()?.parse().ok()?;
    let day: i64 = fields.next()?.parse().ok()?;
    let valid =
        fields.next().is_none() && year < 10_000_000 && (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| days(if bc { 1 - year } else { year }, month, day))
}

fn without_bc(text: &[u8]) -> Result<(&str, bool), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    Ok(match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    })
}

/// Offset of a time zone, `+02`, `-03:30`, `+01:02:03`, in microseconds; 0 for none.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (time, zone) = text.split_at(at);
    let (sign, zone) = zone.split_at(1);
    let mut seconds = 0;
    let mut unit = 3600;
    for field in zone.split(':') {
        seconds += field.parse::<i64>().ok()? * unit;
        unit /= 60;
    }
    Some((time, seconds * if sign == "-" { -1_000_000 } else { 1_000_000 }))
}

/// Microseconds since 1970 of a timestamp, in UTC if it has a zone.
fn timestamp(text: &[u8], zoned: bool) -> Result<i128, Wrong> {
    let (text, bc) = without_bc(text)?;
    let (date, time) = text.split_once(' ').ok_or(MALFORMED)?;
    let (time, offset) = if zoned { split_zone(time).ok_or(MALFORMED)? } else { (time, 0) };
    let days = day(date, bc).ok_or(MALFORMED)?;
    let time = time_of_day(time).ok_or(MALFORMED)?;
    // Year 294276 is beyond what 64 bits count from 1970.
    Ok(i128::from(days) * i128::from(DAY) + i128::from(time - offset))
}

fn is_infinite(text: &[u8]) -> bool {
    matches!(text, b"infinity" | b"-infinity")
}

/// Appends a date in ISO 8601: a sign beyond year 9999, and before year 0, which is 1 BC.
fn iso_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date(days);
    let sign = if year < 0 {
        "-"
    } else if year > 9999 {
        "+"
    } else {
        ""
    };
    json::display(out, format_args!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs()));
}

/// Appends `HH:MM:SS` and the fraction, in `digits` digits or as many as it needs.
fn iso_time(out: &mut Vec<u8>, micros: i64, digits: Option<usize>) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    json::display(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    let fraction = format!(".{fraction:06}");
    let fraction = match digits {
        Some(0) => "",
        Some(digits) => &fraction[..=digits],
        None => fraction.trim_end_matches('0').trim_end_matches('.'),
    };
    out.extend_from_slice(fraction.as_bytes());
}

pub(super) fn write_date(out: &mut Vec<u8>, text: &[u8], unit: Unit) -> Result<(), Wrong> {
    if is_infinite(text) {
        json::string(out, text);
        return Ok(());
    }
    let (text, bc) = without_bc(text)?;
    let days = day(text, bc).ok_or(MALFORMED)?;
    if unit == Unit::Iso {
        out.push(b'"');
        iso_date(out, days);
        out.extend_from_slice(b"Z\"");
    } else {
        json::display(out, days);
    }
    Ok(())
}

pub(super) fn write_time(out: &mut Vec<u8>, text: &[u8], unit: Unit) -> Result<(), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let micros = time_of_day(text).ok_or(MALFORMED)?;
    if unit == Unit::Iso {
        out.push(b'"');
        iso_time(out, micros, None);
        out.extend_from_slice(b"Z\"");
    } else {
        json::display(out, unit.count(i128::from(micros)));
    }
    Ok(())
}

pub(super) fn write_timestamp(out: &mut Vec<u8>, text: &[u8], unit: Unit) -> Result<(), Wrong> {
    let infinity = match text {
        b"infinity" => INFINITY,
        b"-infinity" => MINUS_INFINITY,
        text => {
            let micros = timestamp(text, false)?;
            let count = i64::try_from(unit.count(micros));
            match count {
                Ok(count) if unit != Unit::Iso && !unit.is_infinite(count) => json::display(out, count),
                // Beyond what the unit counts (nanoseconds end in 2262), or the number of infinity itself: the text says it.
                _ => iso_timestamp(out, micros, None),
            }
            return Ok(());
        }
    };
    match unit {
        // Nanoseconds have no number for them, and as ISO string Debezium's is a date that a row may hold.
        Unit::Iso | Unit::Nanos => json::string(out, text),
        unit => json::display(out, unit.count(i128::from(infinity))),
    }
    Ok(())
}

fn iso_timestamp(out: &mut Vec<u8>, micros: i128, digits: Option<usize>) {
    let day = i128::from(DAY);
    out.push(b'"');
    iso_date(out, micros.div_euclid(day) as i64);
    out.push(b'T');
    iso_time(out, micros.rem_euclid(day) as i64, digits);
    out.extend_from_slice(b"Z\"");
}

/// A string in every mode; `digits`: of the fraction.
pub(super) fn write_timestamptz(out: &mut Vec<u8>, text: &[u8], digits: usize) -> Result<(), Wrong> {
    if is_infinite(text) {
        json::string(out, text);
        return Ok(());
    }
    iso_timestamp(out, timestamp(text, true)?, Some(digits));
    Ok(())
}

/// In UTC, in every mode.
pub(super) fn write_timetz(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let (time, offset) = split_zone(text).ok_or(MALFORMED)?;
    let time = time_of_day(time).ok_or(MALFORMED)?;
    let utc = if time == DAY && offset == 0 { DAY } else { (time - offset).rem_euclid(DAY) };
    out.push(b'"');
    iso_time(out, utc, None);
    out.extend_from_slice(b"Z\"");
    Ok(())
}

fn postgres_date(days: i64) -> (String, &'static str) {
    let (year, month, day) = date(days);
    let (year, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn postgres_time(micros: i64) -> String {
    let mut out = Vec::new();
    iso_time(&mut out, micros, None);
    String::from_utf8_lossy(&out).into_owned()
}

fn special(text: &str) -> Option<String> {
    is_infinite(text.as_bytes()).then(|| text.to_owned())
}

pub(super) fn read_date(value: &Value<'_>, unit: Unit) -> Result<String, Wrong> {
    match value {
        Value::Number(_) if unit != Unit::Iso => {
            let days: i64 = value.number().ok_or(OTHER)?;
            // Year 5874897, and some.
            if days.unsigned_abs() > 3_000_000_000 {
                return Err("a date out of range");
            }
            let (date, era) = postgres_date(days);
            Ok(date + era)
        }
        Value::String(text) => match special(text) {
            Some(text) => Ok(text),
            None => read_iso(text, ""),
        },
        _ => Err(OTHER),
    }
}

pub(super) fn read_time(value: &Value<'_>, unit: Unit) -> Result<String, Wrong> {
    match value {
        Value::Number(_) if unit != Unit::Iso => {
            let micros = unit.micros(value.number().ok_or(OTHER)?)?;
            if !(0..=DAY).contains(&micros) {
                return Err("a time out of range");
            }
            Ok(postgres_time(micros))
        }
        Value::String(text) => Ok(text.strip_suffix('Z').unwrap_or(text).to_owned()),
        _ => Err(OTHER),
    }
}

pub(super) fn read_timestamp(value: &Value<'_>, unit: Unit) -> Result<String, Wrong> {
    match value {
        Value::Number(_) if unit != Unit::Iso => {
            let count: i64 = value.number().ok_or(OTHER)?;
            for (infinity, text) in [(INFINITY, "infinity"), (MINUS_INFINITY, "-infinity")] {
                if i128::from(count) == unit.count(i128::from(infinity)) {
                    return Ok(text.to_owned());
                }
            }
            let micros = unit.micros(count)?;
            let (date, era) = postgres_date(micros.div_euclid(DAY));
            Ok(format!("{date} {}{era}", postgres_time(micros.rem_euclid(DAY))))
        }
        Value::String(text) => read_iso(text, ""),
        _ => Err(OTHER),
    }
}

/// ISO 8601 (`+21016-11-04T06:51:30Z`, `-0043-03-15Z`) as PostgreSQL reads it; `zone` in place of `Z`.
pub(super) fn read_iso(text: &str, zone: &str) -> Result<String, Wrong> {
    if let Some(text) = special(text) {
        return Ok(text);
    }
    let (date, time) = text.split_once('T').unwrap_or((text.strip_suffix('Z').unwrap_or(text), ""));
    let (sign, digits) = match date.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, date.strip_prefix('+').unwrap_or(date)),
    };
    let (year, rest) = digits.split_once('-').ok_or(OTHER)?;
    let year = sign * year.parse::<i64>().ok().filter(|year| (0..10_000_000).contains(year)).ok_or(OTHER)?;
    let (year, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    if rest.len() != 5 || !rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(OTHER);
    }
    if time.is_empty() {
        return Ok(format!("{year:04}-{rest}{era}"));
    }
    let (time, zone) = match time.strip_suffix('Z') {
        Some(time) => (time, zone),
        None => (time, ""),
    };
    Ok(format!("{year:04}-{rest} {time}{zone}{era}"))
}
