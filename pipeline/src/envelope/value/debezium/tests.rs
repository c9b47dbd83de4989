use super::*;
use crate::envelope::options::{TimePrecision, Values};
use crate::envelope::types::Kind;

fn column(oid: u32, name: &str, modifier: i32, array: bool) -> ColumnType {
    ColumnType {
        name: "c".to_owned(),
        type_oid: oid,
        kind: Kind::Base,
        base_name: name.to_owned(),
        base_oid: oid,
        type_modifier: modifier,
        array,
        not_null: false,
        default: None,
        computed_default: false,
        labels: Vec::new(),
    }
}

fn encoding(options: &Options, column: &ColumnType) -> Encoding {
    Encoding::described(options, column, column.type_modifier)
}

fn written(encoding: &Encoding, text: &str) -> String {
    let mut out = Vec::new();
    encoding.write(&mut out, text.as_bytes()).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
    String::from_utf8(out).unwrap()
}

fn back(encoding: &Encoding, json: &str) -> String {
    let value = Value::read(json.as_bytes()).unwrap();
    let text = encoding.read(&value).unwrap_or_else(|wrong| panic!("{json}: {wrong}")).unwrap();
    String::from_utf8(text.into_owned()).unwrap()
}

fn options() -> Options {
    Options::new("p", "d", Values::Debezium)
}

/// Each text, its JSON, and the text again.
fn assert_round(encoding: &Encoding, cases: &[(&str, &str)]) {
    for (text, json) in cases {
        assert_eq!(written(encoding, text), *json, "{text}");
        assert_eq!(back(encoding, json), *text, "{json}");
    }
}

fn numeric(precision: i32, scale: i32) -> Encoding {
    encoding(&options(), &column(1700, "numeric", (precision << 16 | (scale & 0x7ff)) + 4, false))
}

#[test]
fn decimals_are_two_s_complement() {
    let cases = [
        ("123.45", "\"MDk=\""),
        ("-0.01", "\"/w==\""),
        ("0.00", "\"AA==\""),
        ("1.27", "\"fw==\""),
        ("1.28", "\"AIA=\""),
        ("-1.28", "\"gA==\""),
        ("-1.29", "\"/38=\""),
        ("-2.56", "\"/wA=\""),
        ("NaN", "\"NaN\""),
        ("Infinity", "\"Infinity\""),
    ];
    assert_round(&numeric(5, 2), &cases);
    assert_round(&numeric(2, 5), &[("0.00012", "\"DA==\"")]);
    assert_round(&numeric(3, -2), &[("12300", "\"ew==\""), ("-100", "\"/w==\""), ("0", "\"AA==\"")]);
    let variable = encoding(&options(), &column(1700, "numeric", -1, false));
    let cases = [
        ("22.2222", "{\"scale\":4,\"value\":\"A2QO\"}"),
        ("0", "{\"scale\":0,\"value\":\"AA==\"}"),
        ("100000000000000000000", "{\"scale\":0,\"value\":\"BWvHXi1jEAAA\"}"),
        ("-Infinity", "\"-Infinity\""),
    ];
    assert_round(&variable, &cases);
}

#[test]
fn numbers_of_any_length_come_back() {
    let variable = encoding(&options(), &column(1700, "numeric", -1, false));
    for digits in [37, 38, 39, 40, 100, 1000, 4000] {
        for sign in ["", "-"] {
            let text = format!("{sign}{}.{}", "9".repeat(digits), "1234567890".repeat(digits / 10));
            let text = text.trim_end_matches('.');
            assert_eq!(back(&variable, &written(&variable, text)), text);
        }
    }
}

#[test]
fn dates_and_times_come_back() {
    let of = |oid, modifier, mode| {
        let mut options = options();
        options.time = mode;
        encoding(&options, &column(oid, "", modifier, false))
    };
    let date = of(1082, -1, TimePrecision::Adaptive);
    let cases = [
        ("2016-11-04", "17109"),
        ("0044-03-15 BC", "-735160"),
        ("5874897-12-31", "2145042905"),
        ("4713-01-01 BC", "-2440550"),
        ("infinity", "\"infinity\""),
    ];
    assert_round(&date, &cases);
    assert_round(
        &of(1082, -1, TimePrecision::Isostring),
        &[("0044-03-15 BC", "\"-0043-03-15Z\""), ("12016-11-04", "\"+12016-11-04Z\"")],
    );
    assert_round(
        &of(1083, -1, TimePrecision::Adaptive),
        &[("24:00:00", "86400000000"), ("13:51:30.123456", "49890123456")],
    );
    assert_round(&of(1083, 3, TimePrecision::Adaptive), &[("13:51:30.123", "49890123")]);
    assert_round(&of(1083, 0, TimePrecision::Nanoseconds), &[("13:51:30", "49890000000000")]);
    let micros = of(1114, -1, TimePrecision::Adaptive);
    let cases = [
        ("infinity", "9223372036825200000"),
        ("-infinity", "-9223372036832400000"),
        ("200000-01-01 00:00:00", "6249223180800000000"),
        ("1936-10-25 22:10:12.608", "-1047174587392000"),
        ("294276-12-31 23:59:59.999999", "\"+294276-12-31T23:59:59.999999Z\""),
        ("4713-01-01 00:00:00 BC", "-210863520000000000"),
    ];
    assert_round(&micros, &cases);
    assert_round(
        &of(1114, -1, TimePrecision::Nanoseconds),
        &[
            ("2016-11-04 13:51:30.123456", "1478267490123456000"),
            ("21016-11-04 13:51:30", "\"+21016-11-04T13:51:30Z\""),
        ],
    );
    let tz = of(1184, -1, TimePrecision::Adaptive);
    let cases = [
        ("2016-11-04 11:51:30.123456+00", "\"2016-11-04T11:51:30.123456Z\""),
        ("0001-12-31 00:00:00.000000+00 BC", "\"0000-12-31T00:00:00.000000Z\""),
        ("infinity", "\"infinity\""),
    ];
    assert_round(&tz, &cases);
    let zone = of(1266, -1, TimePrecision::Adaptive);
    for (text, json) in [
        ("13:51:30.123789+02", "\"11:51:30.123789Z\""),
        ("01:00:00+02:30", "\"22:30:00Z\""),
        ("24:00:00+00", "\"24:00:00Z\""),
    ] {
        assert_eq!(written(&zone, text), json);
    }
}

#[test]
fn floats_are_java_s() {
    let float = encoding(&options(), &column(701, "float8", -1, false));
    for (text, json) in [
        ("0", "0.0"),
        ("-0", "-0.0"),
        ("1", "1.0"),
        ("0.001", "0.001"),
        ("0.0099", "0.0099"),
        ("0.0009", "9.0E-4"),
        ("1234567.5", "1234567.5"),
        ("9999999", "9999999.0"),
        ("10000000", "1.0E7"),
        ("123456789", "1.23456789E8"),
        ("1e+300", "1.0E300"),
        ("5e-324", "4.9E-324"),
        ("120", "120.0"),
        ("NaN", "\"NaN\""),
    ] {
        assert_eq!(written(&float, text), json);
    }
    let float = encoding(&options(), &column(700, "float4", -1, false));
    for (text, json) in [("3.3", "3.3"), ("1e-10", "1.0E-10"), ("16777216", "1.6777216E7")] {
        assert_eq!(written(&float, text), json);
    }
}

#[test]
fn bits_are_little_endian() {
    let bits = |modifier, varying| {
        encoding(&options(), &column(if varying { 1562 } else { 1560 }, "", modifier, false))
    };
    assert_round(&bits(1, false), &[("1", "true"), ("0", "false")]);
    assert_round(&bits(7, false), &[("1000000", "\"QA==\""), ("0000000", "\"\"")]);
    let zeros = "0".repeat(100_000);
    assert_round(&bits(100_000, false), &[(&zeros[..], "\"\"")]);
    assert_round(
        &bits(-1, true),
        &[("111011010001000110000001000000001", "\"AQIj2gE=\""), ("101", "\"BQ==\"")],
    );
}

#[test]
fn intervals_have_months_of_an_average() {
    let numeric = encoding(&options(), &column(1186, "interval", -1, false));
    let mut iso = options();
    iso.interval = Interval::String;
    let iso = encoding(&iso, &column(1186, "interval", -1, false));
    for (text, micros, string) in [
        ("1 year 2 mons 3 days 04:05:06.78", "37091106780000", "P1Y2M3DT4H5M6.78S"),
        ("-1 mons +2 days -03:04:05.000001", "-2468045000001", "P0Y-1M2DT-3H-4M-5.000001S"),
        ("00:00:00", "0", "P0Y0M0DT0H0M0S"),
        ("1 day 12:00:00", "129600000000", "P0Y0M1DT12H0M0S"),
        ("-00:00:00.5", "-500000", "P0Y0M0DT0H0M-0.5S"),
        ("178000000 years", "5617252800000000000000", "P178000000Y0M0DT0H0M0S"),
    ] {
        assert_eq!(written(&numeric, text), micros);
        assert_eq!(written(&iso, text), format!("\"{string}\""));
        assert_eq!(back(&iso, &format!("\"{string}\"")), string);
    }
}

#[test]
fn arrays_keep_their_dimensions() {
    let texts = encoding(&options(), &column(25, "text", -1, true));
    for (text, json, again) in [
        ("{}", "[]", "{}"),
        ("{a,NULL,\"NULL\",\"\"}", "[\"a\",null,\"NULL\",\"\"]", "{\"a\",NULL,\"NULL\",\"\"}"),
        ("[0:1]={\"a,b\",\"c\\\"\\\\d\"}", "[\"a,b\",\"c\\\"\\\\d\"]", "{\"a,b\",\"c\\\"\\\\d\"}"),
        ("{{a,b},{c,\"{}\"}}", "[[\"a\",\"b\"],[\"c\",\"{}\"]]", "{{\"a\",\"b\"},{\"c\",\"{}\"}}"),
    ] {
        assert_eq!(written(&texts, text), json);
        assert_eq!(back(&texts, json), again);
    }
    // Only the delimiter of its own type ends an element.
    assert_eq!(written(&texts, "{a;b,c:d}"), "[\"a;b\",\"c:d\"]");
    let boxes = encoding(&options(), &column(603, "box", -1, true));
    let text = "{(1,1),(0,0);(3,3),(2,2)}";
    assert_eq!(written(&boxes, text), "[\"(1,1),(0,0)\",\"(3,3),(2,2)\"]");
    assert_eq!(back(&boxes, &written(&boxes, text)), "{\"(1,1),(0,0)\";\"(3,3),(2,2)\"}");
    for text in ["", "{", "{a", "{a}}", "{\"a}", "{\"a\\", "[0:1]", "{a\"b", "{\"a\"b}"] {
        assert!(texts.write(&mut Vec::new(), text.as_bytes()).is_err(), "{text}");
    }
    assert!(texts.write(&mut Vec::new(), "{".repeat(100_000).as_bytes()).is_err());
}

#[test]
fn hstores_points_and_bytes_come_back() {
    let hstore = encoding(&options(), &column(99_999, "hstore", -1, false));
    assert_round(
        &hstore,
        &[
            ("\"k\\\"1\"=>\"v\", \"n\"=>NULL", "\"{\\\"k\\\\\\\"1\\\":\\\"v\\\",\\\"n\\\":null}\""),
            ("", "\"{}\""),
        ],
    );
    let point = encoding(&options(), &column(600, "point", -1, false));
    assert_eq!(back(&point, &written(&point, "(1,2.5)")), "(1.0,2.5)");
    for mode in [Binary::Bytes, Binary::Base64, Binary::Base64UrlSafe, Binary::Hex] {
        let mut options = options();
        options.binary = mode;
        let bytes = encoding(&options, &column(17, "bytea", -1, false));
        for text in ["\\x", "\\x00fbff", "\\xdeadbeef00"] {
            assert_eq!(back(&bytes, &written(&bytes, text)), text);
        }
    }
}

#[test]
fn what_a_type_does_not_write_is_an_error() {
    for (oid, texts) in [
        (1700, &["", "1e5", "0x1", "1,5", "--1"][..]),
        (1082, &["", "2016", "2016-13-01", "x-1-1", "2016-11-04 12:00:00"][..]),
        (1114, &["2016-11-04", "2016-11-04 25:00:00", "2016-11-04 1:2"][..]),
        (1184, &["2016-11-04 00:00:00+xx"][..]),
        (1186, &["1", "x years", "1 weeks", "1:2"][..]),
        (17, &["abc", "\\xf", "\\xzz"][..]),
        (1562, &["102"][..]),
        (600, &["1,2", "(1)", "(a,b)"][..]),
    ] {
        let encoding = encoding(&options(), &column(oid, "", -1, false));
        for text in texts {
            assert!(encoding.write(&mut Vec::new(), text.as_bytes()).is_err(), "{oid} {text}");
        }
    }
}

/// Whatever JSON stands where a value is expected: a text or an error.
#[test]
fn hostile_values_are_refused() {
    let values = [
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1e400",
        "1.5",
        "true",
        "\"\"",
        "\"AA==\"",
        "\"=\"",
        "\"é\"",
        "[]",
        "[[1]]",
        "{}",
        "{\"scale\":2147483647,\"value\":\"AQ==\"}",
        "{\"scale\":-2147483648,\"value\":\"AQ==\"}",
        "{\"scale\":1}",
        "{\"x\":\"a\",\"y\":1}",
        "\"-9999999999999-01-01Z\"",
        "\"2016-é\"",
        "\"T\"",
        "\"---\"",
        "\"2016-11-04T\"",
        "{\"a\":{}}",
    ];
    for oid in [16, 20, 701, 1700, 790, 1082, 1083, 1114, 1184, 1266, 1186, 17, 1560, 1562, 600, 25] {
        for mode in [
            TimePrecision::Adaptive,
            TimePrecision::Isostring,
            TimePrecision::Nanoseconds,
            TimePrecision::Connect,
        ] {
            for array in [false, true] {
                let mut options = options();
                options.time = mode;
                for name in ["", "hstore"] {
                    let encoding = encoding(&options, &column(oid, name, 5, array));
                    for value in values {
                        let _ = encoding.read(&Value::read(value.as_bytes()).unwrap());
                    }
                }
            }
        }
    }
    let huge = format!("\"{}\"", "A".repeat(4 << 20));
    assert!(numeric(5, 2).read(&Value::read(huge.as_bytes()).unwrap()).is_err());
}
