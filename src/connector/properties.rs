//! Java's `.properties` format: <https://docs.oracle.com/javase/8/docs/api/java/util/Properties.html#load-java.io.Reader->.

/// Names and values in the order of the text.
///
/// # Errors
/// Line and what is wrong with it, without its text.
pub fn read(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    // A line of Windows' ends once: the empty one after it would be what a continued line goes on with.
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim_start_matches([' ', '\t', '\u{c}']);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while continues(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start_matches([' ', '\t', '\u{c}']));
        }
        let (name, value) = split(&whole);
        let plain = |text| unescape(text).map_err(|what| format!("line {}: {what}", at + 1));
        found.push((plain(name)?, plain(value)?));
    }
    Ok(found)
}

/// It ends with an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// At the first `=`, `:` or blank that no backslash is before.
fn split(line: &str) -> (&str, &str) {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\u{c}');
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (matches!(c, '=' | ':') || blank(*c));
        escaped = !escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(blank))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let wrong = "\\u is not followed by four hexadecimal digits";
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let valid = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| valid).ok_or(wrong)?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend(c.encode_utf16(&mut [0; 2]).iter());
    }
    String::from_utf16(&units).map_err(|_| "\\u names half a character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# a comment\n! another\n\nname=gold\n  spaced : value with blanks \nwords  three words\n\
            long=one,\\\n    two,\\\n    three\nempty\npath=C\\:\\\\x\\ty\nwith\\=sign=1\nu=\\u00e9\\ud83d\\ude00\r\nlast==x\n\
            even=ends\\\\\nnext=1";
        let read = read(text).unwrap();
        let expected = [
            ("name", "gold"),
            ("spaced", "value with blanks "),
            ("words", "three words"),
            ("long", "one,two,three"),
            ("empty", ""),
            ("path", "C:\\x\ty"),
            ("with=sign", "1"),
            ("u", "é😀"),
            ("last", "=x"),
            ("even", "ends\\"),
            ("next", "1"),
        ];
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_continued_line_goes_on_behind_a_line_end_of_windows() {
        let read = read("long=one,\\\r\n  two\r\n\r\nnext=1\r\n").unwrap();
        let expected = [("long", "one,two"), ("next", "1")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn names_the_line_and_not_its_text() {
        let error = read("a=1\npassword=\\u12x4secret").unwrap_err();
        assert_eq!(error, "line 2: \\u is not followed by four hexadecimal digits");
    }
}
