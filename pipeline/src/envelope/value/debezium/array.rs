//! Arrays: `{1,NULL,"a,b"}`, `[0:1]={…}`, several dimensions (<https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>).

use std::borrow::Cow;

use super::Wrong;
use crate::envelope::json::read::Value;

/// No value of PostgreSQL's is longer.
const LONGEST: usize = 1 << 30;

/// PostgreSQL's MAXDIM, and some.
const DIMENSIONS: u32 = 16;

const MALFORMED: Wrong = "a malformed array";

/// Appends an array's text as a JSON array; bounds are left out. `delimiter`: between its elements.
pub(super) fn write(
    out: &mut Vec<u8>,
    text: &[u8],
    delimiter: u8,
    element: &mut impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let text = match text {
        [b'[', ..] => {
            let equals = text.iter().position(|byte| *byte == b'=').ok_or(MALFORMED)?;
            &text[equals + 1..]
        }
        text => text,
    };
    let rest = write_level(out, text, delimiter, element, 0)?;
    if rest.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

fn write_level<'t>(
    out: &mut Vec<u8>,
    text: &'t [u8],
    delimiter: u8,
    element: &mut impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), Wrong>,
    depth: u32,
) -> Result<&'t [u8], Wrong> {
    let mut rest = text.strip_prefix(b"{").filter(|_| depth < DIMENSIONS).ok_or(MALFORMED)?;
    out.push(b'[');
    if let Some(rest) = rest.strip_prefix(b"}") {
        out.push(b']');
        return Ok(rest);
    }
    loop {
        match rest.first() {
            Some(b'{') => rest = write_level(out, rest, delimiter, element, depth + 1)?,
            Some(b'"') => {
                let (value, after) = quoted(&rest[1..])?;
                element(out, &value)?;
                rest = after;
            }
            _ => {
                let ends = |byte: &u8| *byte == delimiter || *byte == b'}';
                let end = rest.iter().position(ends).ok_or(MALFORMED)?;
                match &rest[..end] {
                    b"NULL" => out.extend_from_slice(b"null"),
                    value => element(out, value)?,
                }
                rest = &rest[end..];
            }
        }
        match rest.split_first() {
            Some((byte, after)) if *byte == delimiter => {
                out.push(b',');
                rest = after;
            }
            Some((b'}', after)) => {
                out.push(b']');
                return Ok(after);
            }
            _ => return Err(MALFORMED),
        }
    }
}

/// A quoted element after its first quote, and what follows it.
fn quoted(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Wrong> {
    let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(MALFORMED)?;
    if text[end] == b'"' {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_vec();
    let mut bytes = text[end..].iter();
    loop {
        match bytes.next().ok_or(MALFORMED)? {
            b'"' => return Ok((Cow::Owned(value), bytes.as_slice())),
            b'\\' => value.push(*bytes.next().ok_or(MALFORMED)?),
            byte => value.push(*byte),
        }
    }
}

/// Appends the text of an array of these elements.
pub(super) fn read<'v>(
    out: &mut Vec<u8>,
    elements: &'v [Value<'_>],
    delimiter: u8,
    element: &impl Fn(&'v Value<'_>) -> Result<Cow<'v, [u8]>, Wrong>,
) -> Result<(), Wrong> {
    out.push(b'{');
    for (at, value) in elements.iter().enumerate() {
        if at > 0 {
            out.push(delimiter);
        }
        if out.len() > LONGEST {
            return Err("an array longer than PostgreSQL's");
        }
        match value {
            Value::Null => out.extend_from_slice(b"NULL"),
            Value::Array(elements) => read(out, elements, delimiter, element)?,
            value => {
                out.push(b'"');
                for byte in element(value)?.iter() {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
                out.push(b'"');
            }
        }
    }
    out.push(b'}');
    Ok(())
}
