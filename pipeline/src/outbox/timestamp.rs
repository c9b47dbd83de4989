//! A timestamp column's text as Kafka's milliseconds.

/// Milliseconds since 1970 of `2024-01-02 03:04:05.678901`, with or without a zone of hours, minutes and seconds behind it. None: malformed,
/// infinite, or before 1970, which Kafka has no number for.
pub(super) fn millis(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let zone_at = time.find(['+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone_at);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let milli: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let offset = offset(zone)?;
    let seconds = days(year, month, day).checked_mul(86_400)? + hour * 3600 + minute * 60 + second - offset;
    let millis = seconds.checked_mul(1000)?.checked_add(milli)?;
    (millis >= 0).then_some(millis)
}

fn offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1) {
        None => return Some(0),
        Some(("+", digits)) => (1, digits),
        Some((_, digits)) => (-1, digits),
    };
    let mut parts = digits.split(':').map(str::parse::<i64>);
    let mut next = || parts.next().map_or(Some(0), Result::ok);
    Some(sign * (next()? * 3600 + next()? * 60 + next()?))
}

/// Days since 1970-01-01, proleptic Gregorian.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_with_and_without_a_zone() {
        for (text, expected) in [
            ("2024-01-02 03:04:05.678901", Some(1_704_164_645_678)),
            ("2024-01-02 03:04:05", Some(1_704_164_645_000)),
            ("2024-01-02 03:04:05.6+00", Some(1_704_164_645_600)),
            ("2024-01-02 05:34:05+02:30", Some(1_704_164_645_000)),
            ("1970-01-01 00:00:00", Some(0)),
            ("1969-12-31 23:59:59", None),
            ("infinity", None),
            ("0044-03-15 00:00:00 BC", None),
            ("2024-01-02", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
