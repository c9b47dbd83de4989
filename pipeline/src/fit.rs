//! Can a column of the target keep what the source's column brings?
//!
//! Types may differ where the text fits, and most input functions refuse a text that doesn't. Those of the types below don't: they round, cut
//! or leave out, and say nothing. So a value for such a column is looked at before it is sent.
//!
//! Sources: numeric's scale (PostgreSQL docs 8.1.2), the precision of times and intervals (8.5), `name` and `"char"` (8.3), trailing blanks of
//! `varchar(n)` and `char(n)` (8.3).

mod decimal;
mod limit;

use pg::{Error, QualifiedName, quote_ident};

use crate::change::element_type;
use limit::Limit;

/// A type without domains around it, and its modifier (`atttypmod`; -1: none).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ColumnType {
    pub id: u32,
    pub modifier: i32,
    /// Of an array: its elements' type, where that is known; else 0.
    pub element: u32,
}

impl ColumnType {
    /// As a Relation message has it: what is not PostgreSQL's own is not known.
    #[must_use]
    pub fn of_stream(id: u32, modifier: i32) -> ColumnType {
        ColumnType { id, modifier, element: element_type(id).unwrap_or(0) }
    }
}

const CHAR: u32 = 18;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const OID: u32 = 26;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const MONEY: u32 = 790;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const TIMETZ: u32 = 1266;
const NUMERIC: u32 = 1700;

/// Modifiers of types with a length or a scale begin behind a header of this size.
const HEADER: i32 = 4;

/// What a column of the target can keep of its source's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fit {
    limit: Limit,
    array: bool,
}

impl Fit {
    /// `None`: a value of the source's type is kept whole, or refused by the server.
    #[must_use]
    pub fn of(source: ColumnType, target: ColumnType) -> Option<Fit> {
        if target.element == 0 {
            return limit(source, target).map(|limit| Fit { limit, array: false });
        }
        let element = |array: ColumnType| ColumnType { id: array.element, element: 0, ..array };
        match limit(element(source), element(target))? {
            // Their elements may be quoted, and hold what separates elements.
            Limit::Bytes(_) | Limit::Characters(_) | Limit::NoBlankAtEnd => None,
            limit => Some(Fit { limit, array: true }),
        }
    }

    /// Is this value, as text, kept whole? True as well for what can't be read: the server refuses it, or knows better.
    #[must_use]
    pub fn holds(&self, text: &[u8]) -> bool {
        if !self.array {
            return self.limit.holds(text);
        }
        let mut elements = text.split(|byte| b"{},\"".contains(byte));
        elements.all(|element| element.is_empty() || element == b"NULL" || self.limit.holds(element))
    }

    /// The error for a value that is not kept whole. `formatted`: the column's type on the source.
    #[must_use]
    pub fn error(&self, table: &QualifiedName, column: &str, formatted: &str) -> Error {
        let column = quote_ident(column);
        let lost = match self.limit {
            Limit::Scale(_) | Limit::Half | Limit::Single | Limit::Double => "digits of a number",
            Limit::Fraction(_) => "a part of a second",
            Limit::Date => "a time of day",
            Limit::Bytes(_) | Limit::Characters(_) | Limit::NoBlankAtEnd => "the end of a text",
            Limit::Nothing => "a part of a value",
        };
        Error::stop(
            COLUMN_NARROWER,
            format!("column {column} of table {table} is narrower on the target: it would lose {lost}"),
        )
        .hint(format!(
            "run on the target: ALTER TABLE {table} ALTER COLUMN {column} TYPE {formatted}; the run then goes on by itself"
        ))
    }
}

/// Code of the error for a value that the target would not keep whole, nor refuse.
pub const COLUMN_NARROWER: &str = "COLUMN_NARROWER";

fn limit(source: ColumnType, target: ColumnType) -> Option<Limit> {
    let integer = matches!(source.id, INT2 | INT4 | INT8 | OID);
    match target.id {
        NUMERIC => {
            let scale = scale(target)?;
            let fits = integer && scale >= 0
                || source.id == NUMERIC && self::scale(source).is_some_and(|of| of <= scale);
            (!fits).then_some(Limit::Scale(scale))
        }
        // Cents, in nearly every locale.
        MONEY => (source.id != MONEY && !integer).then_some(Limit::Scale(2)),
        FLOAT4 if source.id == FLOAT8 => Some(Limit::Half),
        FLOAT4 => (!matches!(source.id, FLOAT4 | INT2)).then_some(Limit::Single),
        FLOAT8 => (!matches!(source.id, FLOAT8 | FLOAT4 | INT2 | INT4 | OID)).then_some(Limit::Double),
        DATE => (source.id != DATE).then_some(Limit::Date),
        TIME if matches!(source.id, TIMESTAMP | TIMESTAMPTZ | TIMETZ) => Some(Limit::Nothing),
        TIMETZ if matches!(source.id, TIMESTAMP | TIMESTAMPTZ) => Some(Limit::Nothing),
        TIME | TIMETZ | TIMESTAMP | TIMESTAMPTZ => {
            let fits = match source.id {
                DATE => true,
                TIME | TIMETZ | TIMESTAMP | TIMESTAMPTZ => {
                    fraction(source.modifier) <= fraction(target.modifier)
                }
                _ => false,
            };
            (fraction(target.modifier) < 6 && !fits).then_some(Limit::Fraction(fraction(target.modifier)))
        }
        INTERVAL if source.id == INTERVAL && source.modifier == target.modifier => None,
        INTERVAL if target.modifier < 0 => None,
        // The upper half says which fields it has, the lower one the digits of the second; all bits: no such limit.
        INTERVAL if target.modifier >> 16 & 0x7fff != 0x7fff => Some(Limit::Nothing),
        INTERVAL => {
            let digits = fraction(target.modifier & 0xffff);
            (digits < 6).then_some(Limit::Fraction(digits))
        }
        NAME => (!matches!(source.id, NAME | CHAR)).then_some(Limit::Bytes(63)),
        CHAR => (source.id != CHAR).then_some(Limit::Bytes(1)),
        BPCHAR => (source.id != BPCHAR).then_some(Limit::NoBlankAtEnd),
        VARCHAR if target.modifier >= HEADER => {
            let limited = matches!(source.id, VARCHAR | BPCHAR) && source.modifier >= HEADER;
            let fits = limited && source.modifier <= target.modifier;
            (!fits).then_some(Limit::Characters(usize::try_from(target.modifier - HEADER).unwrap_or(0)))
        }
        _ => None,
    }
}

/// Of a numeric with a modifier. From 15 on it has eleven bits and a sign; before, it is never so large that this makes a difference.
fn scale(of: ColumnType) -> Option<i32> {
    (of.modifier >= HEADER).then(|| (((of.modifier - HEADER) & 0x7ff) ^ 0x400) - 0x400)
}

fn fraction(modifier: i32) -> usize {
    usize::try_from(modifier).ok().filter(|digits| *digits <= 6).unwrap_or(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(id: u32, modifier: i32) -> ColumnType {
        ColumnType::of_stream(id, modifier)
    }

    /// numeric(precision, scale)
    fn numeric(precision: i32, scale: i32) -> ColumnType {
        t(NUMERIC, (precision << 16 | scale & 0x7ff) + HEADER)
    }

    #[track_caller]
    fn expect(source: ColumnType, target: ColumnType, kept: &[&str], lost: &[&str]) {
        let fit = Fit::of(source, target).expect("some values don't fit");
        for text in kept {
            assert!(fit.holds(text.as_bytes()), "{text}");
        }
        for text in lost {
            assert!(!fit.holds(text.as_bytes()), "{text}");
        }
    }

    #[track_caller]
    fn free(source: ColumnType, target: ColumnType) {
        assert_eq!(Fit::of(source, target), None);
    }

    #[test]
    fn digits_after_the_point() {
        let kept = ["1", "-1.25", "1.2500", "0.000", "NaN", "Infinity", "1e-2", "12e3", "no number", ""];
        expect(t(NUMERIC, -1), numeric(10, 2), &kept, &["1.251", "-0.001", "1e-3", "1.5e-2"]);
        expect(numeric(10, 4), numeric(10, 2), &["1.2500"], &["1.2501"]);
        expect(t(FLOAT8, -1), numeric(10, 2), &["1.5"], &["1.5e-05"]);
        expect(t(INT4, -1), numeric(3, -2), &["1200", "0"], &["1250", "1"]);
        expect(numeric(12, 3), t(MONEY, -1), &["7.100"], &["7.101"]);
        free(numeric(10, 2), numeric(10, 2));
        free(numeric(10, 2), numeric(12, 4));
        free(t(INT8, -1), numeric(10, 2));
        free(numeric(10, 2), t(NUMERIC, -1));
        free(numeric(10, 2), t(INT8, -1));
    }

    #[test]
    fn what_a_float_holds() {
        let single = t(FLOAT4, -1);
        expect(
            t(FLOAT8, -1),
            single,
            &["0.5", "-0", "16777216", "NaN", "-Infinity"],
            &["0.1", "-1.5e-07", "1e300"],
        );
        expect(t(NUMERIC, -1), single, &["0.1", "0.5", "-1.5e-07"], &["0.1234567890123"]);
        expect(t(INT4, -1), single, &["16777216", "16777218", "0"], &["16777217"]);
        let double = t(FLOAT8, -1);
        expect(t(INT8, -1), double, &["9007199254740992", "9223372036854774784"], &["9007199254740993"]);
        expect(
            t(NUMERIC, -1),
            double,
            &["0.1", "1e400", "-0"],
            &["0.10000000000000000555", "1.00000000000000000001"],
        );
        free(single, double);
        free(t(INT4, -1), double);
        free(double, double);
    }

    #[test]
    fn times_and_dates() {
        let (whole, milli) = (t(TIMESTAMP, -1), t(TIMESTAMP, 3));
        let kept =
            ["2024-02-29 12:00:00", "2024-02-29 12:00:00.123", "2024-02-29 12:00:00.123000+00", "infinity"];
        expect(whole, milli, &kept, &["2024-02-29 12:00:00.123400", "0044-03-15 12:00:00.0001 BC"]);
        expect(
            t(TIMESTAMPTZ, 6),
            t(TIMESTAMPTZ, 0),
            &["2024-02-29 12:00:00+00"],
            &["2024-02-29 12:00:00.1+00"],
        );
        free(milli, whole);
        free(milli, t(TIMESTAMPTZ, 3));
        free(t(DATE, -1), t(TIMESTAMP, 0));
        let kept = [
            "2024-02-29 00:00:00",
            "2024-02-29 00:00:00+00",
            "0044-03-15 00:00:00 BC",
            "-infinity",
            "2024-02-29",
        ];
        expect(whole, t(DATE, -1), &kept, &["2024-02-29 00:00:00.5", "2024-02-29 12:00:00+00"]);
        expect(whole, t(TIME, -1), &[], &["2024-02-29 12:00:00"]);
        expect(t(TIMETZ, -1), t(TIME, -1), &[], &["12:00:00+00"]);
        // interval(2), and interval day.
        let (digits, day) = (0x7fff << 16 | 2, 8 << 16 | 0xffff);
        expect(t(INTERVAL, -1), t(INTERVAL, digits), &["1 day 00:00:01.25"], &["00:00:01.255"]);
        expect(t(INTERVAL, -1), t(INTERVAL, day), &[], &["1 day"]);
        free(t(INTERVAL, day), t(INTERVAL, day));
        free(t(INTERVAL, day), t(INTERVAL, -1));
    }

    #[test]
    fn texts() {
        let text = t(25, -1);
        expect(
            text,
            t(VARCHAR, 3 + HEADER),
            &["abc", "a  ", "äöü", "abcd", "abc d"],
            &["abc ", "äöü  ", "    "],
        );
        expect(text, t(BPCHAR, 3 + HEADER), &["ab", ""], &["a "]);
        expect(
            text,
            t(NAME, -1),
            &["short"],
            &["a name that is longer than the sixty-three bytes that there are for it"],
        );
        expect(text, t(CHAR, -1), &["a", ""], &["ab"]);
        free(t(VARCHAR, 3 + HEADER), t(VARCHAR, 5 + HEADER));
        free(text, t(VARCHAR, -1));
        free(t(BPCHAR, 5 + HEADER), t(BPCHAR, 3 + HEADER));
    }

    #[test]
    fn elements_of_arrays() {
        let of = |array: u32, modifier: ColumnType| ColumnType::of_stream(array, modifier.modifier);
        let lost = ["{1.50,1.555}", "[0:1]={NULL,0.001}", "{{1},{0.123}}"];
        expect(
            of(1231, t(NUMERIC, -1)),
            of(1231, numeric(6, 2)),
            &["{1.50,NULL}", "{}", "{{1,2},{3,4.10}}"],
            &lost,
        );
        expect(
            of(1115, t(0, -1)),
            of(1115, t(0, 0)),
            &["{\"2024-02-29 12:00:00\"}"],
            &["{\"2024-02-29 12:00:00.5\",NULL}"],
        );
        free(of(1009, t(0, -1)), of(1015, t(0, 7)));
        free(of(1231, numeric(6, 2)), of(1231, numeric(6, 2)));
    }

    #[test]
    fn types_that_are_not_known_are_looked_at() {
        expect(t(16_400, -1), numeric(10, 2), &["1.25"], &["1.255"]);
    }

    #[test]
    fn the_error_names_the_cure_and_not_the_value() {
        let fit = Fit::of(t(NUMERIC, -1), numeric(10, 2)).unwrap();
        let error = fit.error(&QualifiedName::new("s", "t"), "n", "numeric(10,4)");
        assert_eq!(error.code(), COLUMN_NARROWER);
        assert!(
            error
                .hint_text()
                .unwrap()
                .contains("ALTER TABLE \"s\".\"t\" ALTER COLUMN \"n\" TYPE numeric(10,4)")
        );
    }
}
