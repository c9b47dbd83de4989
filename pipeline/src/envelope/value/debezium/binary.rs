//! bytea, bit and bit varying.

use super::Wrong;
use crate::envelope::options::Binary;
use crate::envelope::value::base64;

/// Appends bytes, without quotes.
pub(in crate::envelope) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], mode: Binary) {
    match mode {
        Binary::Bytes | Binary::Base64 => base64::write(out, bytes),
        Binary::Base64UrlSafe => base64::write_with(out, bytes, *b"-_"),
        Binary::Hex => hex(out, bytes),
    }
}

/// None: they are in another encoding.
pub(in crate::envelope) fn read_bytes(text: &str, mode: Binary) -> Option<Vec<u8>> {
    match mode {
        Binary::Hex => unhex(text.as_bytes()),
        Binary::Bytes | Binary::Base64 | Binary::Base64UrlSafe => base64::read(text),
    }
}

/// Appends a bytea (`\x…`).
pub(super) fn write_bytea(out: &mut Vec<u8>, text: &[u8], mode: Binary) -> Result<(), Wrong> {
    let bytes = text.strip_prefix(b"\\x").and_then(unhex).ok_or("a bytea that is not in hex")?;
    out.push(b'"');
    write_bytes(out, &bytes, mode);
    out.push(b'"');
    Ok(())
}

pub(super) fn read_bytea(text: &str, mode: Binary) -> Result<Vec<u8>, Wrong> {
    let bytes = read_bytes(text, mode).ok_or("a bytea in another encoding")?;
    let mut out = Vec::with_capacity(2 + 2 * bytes.len());
    out.extend_from_slice(b"\\x");
    hex(&mut out, &bytes);
    Ok(out)
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend([byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]));
    }
}

fn unhex(hex: &[u8]) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    hex.chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

/// Appends a string of bits as base64 of its little-endian bytes, without the zero bytes at their end.
pub(super) fn write_bits(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
    let mut bytes = vec![0_u8; text.len().div_ceil(8)];
    for (at, bit) in text.iter().rev().enumerate() {
        match bit {
            b'0' => {}
            b'1' => bytes[at / 8] |= 1 << (at % 8),
            _ => return Err("bits that are neither 0 nor 1"),
        }
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    out.push(b'"');
    base64::write(out, &bytes[..used]);
    out.push(b'"');
    Ok(())
}

/// Zeros at the front are not in the event: `length` brings back those of bit(n).
pub(super) fn read_bits(text: &str, length: Option<u32>) -> Result<String, Wrong> {
    let bytes = base64::read(text).ok_or("bits that are no base64")?;
    let bits: String = bytes.iter().rev().map(|byte| format!("{byte:08b}")).collect();
    let bits = bits.trim_start_matches('0');
    let length = length.map_or(bits.len(), |length| length as usize);
    let zeros = length.checked_sub(bits.len()).ok_or("more bits than its type has")?;
    Ok("0".repeat(zeros) + bits)
}
