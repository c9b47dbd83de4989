//! Random values as SQL literals, with a taste for the ones that break things.

use super::Rng;
use crate::support::canary;

/// What has to be known of a column's type.
pub struct Value {
    /// The type's name in pg_type, of a domain that of its base; arrays begin with `_`.
    pub base: String,
    /// As declared, for the cast.
    pub declared: String,
    /// Of an enum.
    pub labels: Option<Vec<String>>,
    /// Of a varchar or char.
    pub length: Option<i32>,
}

/// A value of the type, or nothing for a type that is not known here. `short` keeps it within an index.
pub fn literal(value: &Value, short: bool, rng: &mut Rng) -> Option<String> {
    if let Some(labels) = value.labels.as_ref().filter(|labels| !labels.is_empty()) {
        return Some(quote(rng.pick::<String>(labels)));
    }
    if let Some(element) = value.base.strip_prefix('_') {
        let elements: Option<Vec<String>> =
            (0..rng.below(4)).map(|_| scalar(element, Some(20), rng)).collect();
        let mut elements = elements?;
        if rng.percent(20) {
            elements.push("NULL".to_owned());
        }
        return Some(format!("ARRAY[{}]::{}", elements.join(", "), value.declared));
    }
    scalar(&value.base, value.length.or(short.then_some(60)), rng)
}

fn scalar(base: &str, length: Option<i32>, rng: &mut Rng) -> Option<String> {
    let number = rng.below(1 << 30);
    let sign = if rng.percent(20) { "-" } else { "" };
    Some(match base {
        "bool" => rng.percent(50).to_string(),
        "int2" => format!("{sign}{}", number % 32_768),
        "int4" | "int8" | "oid" => number.to_string(),
        "numeric" => quote(&format!("{sign}{}.{:02}", number % 100_000, number % 100)),
        "float4" | "float8" => {
            quote(rng.pick::<&str>(&["0", "-0", "NaN", "Infinity", "1e-30", "0.1", "123456.789"]))
        }
        "text" | "varchar" | "bpchar" | "citext" | "name" => text(length, rng),
        "bytea" => format!("decode(md5('{number}'), 'hex')"),
        "date" => format!("date '2000-01-01' + {}", number % 20_000),
        "timestamp" => format!("timestamp '1999-12-31 23:59:59.123456' + interval '{number} seconds'"),
        "timestamptz" => format!("timestamptz '1999-12-31 23:59:59.123456+00' + interval '{number} seconds'"),
        "time" => format!("time '00:00' + interval '{number} seconds'"),
        "interval" => quote(&format!("{sign}{} months {} seconds", number % 500, number % 86_400)),
        "uuid" => format!("md5('{number}')::uuid"),
        "json" | "jsonb" => quote(&format!(r#"{{"b": {number}, "a": [null, true, "ä\"\\"], "b": 1.10}}"#)),
        "inet" => quote(&format!("10.{}.{}.1/24", number % 256, number / 256 % 256)),
        "money" => format!("'{number}'::money"),
        "point" => format!("point({number}, 0.5)"),
        "int4range" => format!("int4range({number}, {})", number + 10),
        "tstzrange" => format!(
            "tstzrange(timestamptz '2000-01-01' + interval '{number} seconds', timestamptz '2060-01-01')"
        ),
        "tsvector" => format!("to_tsvector('simple', 'a b c{number}')"),
        "hstore" => quote(&format!("\"k\"=>\"{number}\", \"n\"=>NULL")),
        "ltree" => quote(&format!("top.n{number}")),
        "xml" => quote(&format!("<a>{number}</a>")),
        _ => return None,
    })
}

fn text(length: Option<i32>, rng: &mut Rng) -> String {
    let number = rng.next();
    if length.is_none() && rng.percent(10) {
        // Long and hard to compress: stored out of line.
        return format!("(SELECT string_agg(md5('{number}' || j), '') FROM generate_series(1, 300) j)");
    }
    let long = match rng.below(5) {
        0 => String::new(),
        1 => format!("NULL {{\"a\\b\"}},\t{number}"),
        2 => format!("Größe €{number}\n"),
        _ => format!("{} {number}", canary::ROW),
    };
    let limit = length.map_or(usize::MAX, |length| usize::try_from(length).expect("a length"));
    quote(&long.chars().take(limit).collect::<String>())
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
