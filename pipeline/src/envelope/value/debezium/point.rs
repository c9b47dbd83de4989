//! point: `(1,2.5)` as `{"x","y","wkb","srid"}`.

use super::{Wrong, float};
use crate::envelope::json::read::Value;
use crate::envelope::value::base64;

const MALFORMED: Wrong = "a malformed point";

pub(super) fn write(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or(MALFORMED)?;
    let (x, y) = inner.split_once(',').ok_or(MALFORMED)?;
    // Well-known binary: little-endian, kind 1 (point), two doubles.
    let mut wkb = vec![1, 1, 0, 0, 0];
    for coordinate in [x, y] {
        let value: f64 = coordinate.parse().map_err(|_| MALFORMED)?;
        wkb.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(b"{\"x\":");
    float::write8(out, x.as_bytes())?;
    out.extend_from_slice(b",\"y\":");
    float::write8(out, y.as_bytes())?;
    out.extend_from_slice(b",\"wkb\":\"");
    base64::write(out, &wkb);
    out.extend_from_slice(b"\",\"srid\":null}");
    Ok(())
}

pub(super) fn read(value: &Value<'_>) -> Result<String, Wrong> {
    let coordinate = |name| match value.get(name) {
        Some(Value::Number(text)) => Ok((*text).to_owned()),
        Some(Value::String(text)) if text.parse::<f64>().is_ok() => Ok(text.clone().into_owned()),
        _ => Err("a point without its coordinates"),
    };
    Ok(format!("({},{})", coordinate("x")?, coordinate("y")?))
}
