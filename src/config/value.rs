//! How one value is written: the same text in a file, in the environment and on the command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A type that a configuration key can have.
pub trait Value: Sized {
    /// What the reference page calls it.
    const KIND: &'static str;
    /// The message says what was expected; it is put behind the key, and never repeats the value.
    fn read(text: &str) -> Result<Self, String>;
    /// The text that [`Value::read`] reads back, without secrets.
    fn show(&self) -> String;
    /// Several values: a list in TOML, separated by commas elsewhere.
    fn read_list(items: &[String]) -> Result<Self, String> {
        match items {
            [one] => Self::read(one),
            _ => Err("expected one value, not a list".to_owned()),
        }
    }
    /// As [`Value::read_list`], of what somebody has given; `none`: no items mean something of their own.
    fn read_given(items: &[String], _none: bool) -> Result<Self, String> {
        Self::read_list(items)
    }
}

/// A size in bytes, written as PostgreSQL writes it: `64MB` is 64 × 1024².
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

impl Size {
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// For buffers in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A number of sessions, or `auto`: as many as this machine has cores, at least 2 and at most 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jobs(Option<u16>);

impl Jobs {
    #[must_use]
    pub fn get(self) -> usize {
        self.0.map_or_else(
            || std::thread::available_parallelism().map_or(2, |n| n.get()).clamp(2, 8),
            usize::from,
        )
    }
}

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen(SocketAddr);

impl Listen {
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

/// Splits `number` and `unit` of `12.5 MB`.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

impl Value for Size {
    const KIND: &'static str = "size";

    fn read(text: &str) -> Result<Self, String> {
        let expected = || "expected a size such as 64MB (kB, MB, GB, TB; bytes without a unit)".to_owned();
        let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
        let power = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            _ => return Err(expected()),
        };
        let bytes = number * 1024f64.powi(power);
        if bytes > i64::MAX as f64 {
            return Err("the size is larger than any disk".to_owned());
        }
        Ok(Size(bytes as u64))
    }

    fn show(&self) -> String {
        let units = [("TB", 1u64 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
        for (unit, size) in units {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return format!("{}{unit}", self.0 / size);
            }
        }
        self.0.to_string()
    }
}

impl Value for Duration {
    const KIND: &'static str = "duration";

    fn read(text: &str) -> Result<Self, String> {
        let expected =
            || "expected a duration such as 200ms, 10s, 5min, 1h (seconds without a unit)".to_owned();
        let (number, unit) = number_and_unit(text).ok_or_else(expected)?;
        let seconds = match unit.to_ascii_lowercase().as_str() {
            "ms" => number / 1000.0,
            "" | "s" | "sec" => number,
            "m" | "min" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86_400.0,
            _ => return Err(expected()),
        };
        if seconds > 3650.0 * 86_400.0 {
            return Err("expected a duration of less than ten years".to_owned());
        }
        Duration::try_from_secs_f64(seconds).map_err(|_| expected())
    }

    fn show(&self) -> String {
        let ms = self.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)];
        for (unit, size) in units {
            if ms >= size && ms.is_multiple_of(size) {
                return format!("{}{unit}", ms / size);
            }
        }
        format!("{ms}ms")
    }
}

impl Value for Listen {
    const KIND: &'static str = "address:port";

    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let address = match text.parse::<u16>() {
            Ok(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Err(_) => text.replacen("localhost:", "127.0.0.1:", 1).parse().ok(),
        };
        match address {
            Some(address) if address.port() > 0 => Ok(Listen(address)),
            _ => Err("expected an address and a port such as 127.0.0.1:9187 or [::1]:9187, or a port alone"
                .to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Value for Jobs {
    const KIND: &'static str = "number or auto";

    fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Jobs(None)),
            number => match number.parse() {
                Ok(n @ 1..=256) => Ok(Jobs(Some(n))),
                _ => Err("expected a number from 1 to 256, or auto".to_owned()),
            },
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "auto".to_owned(), |n| n.to_string())
    }
}

impl Value for bool {
    const KIND: &'static str = "on or off";

    fn read(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok(true),
            "off" | "false" | "no" | "0" => Ok(false),
            _ => Err("expected on or off".to_owned()),
        }
    }

    fn show(&self) -> String {
        if *self { "on" } else { "off" }.to_owned()
    }
}

impl Value for usize {
    const KIND: &'static str = "number";

    fn read(text: &str) -> Result<Self, String> {
        text.trim().replace('_', "").parse().map_err(|_| "expected a whole number".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn read(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// An empty text means "not set".
impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// Names out of a list: `"a,b"` is the name `a,b`; a name without quotes is taken as it is, without folding to lower case.
#[must_use]
pub fn unquote(names: Vec<String>) -> Vec<String> {
    let unquoted = |name: String| match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name,
    };
    names.into_iter().map(unquoted).collect()
}

/// Commas inside double quotes belong to a name (as in `"a,b",c`). Items may be empty.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut items = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            ',' if !quoted => items.push(String::new()),
            _ => {
                quoted ^= c == '"';
                if let Some(item) = items.last_mut() {
                    item.push(c);
                }
            }
        }
    }
    if quoted {
        return Err("a double quote is not closed".to_owned());
    }
    Ok(items.into_iter().map(|item| item.trim().to_owned()).collect())
}

impl Value for Vec<String> {
    const KIND: &'static str = "list";

    fn read(text: &str) -> Result<Self, String> {
        Ok(split(text)?.into_iter().filter(|item| !item.is_empty()).collect())
    }

    fn read_list(items: &[String]) -> Result<Self, String> {
        let mut all = Vec::new();
        for item in items {
            all.extend(Self::read(item)?);
        }
        Ok(all)
    }

    /// Where no items mean "all of them", an item that is empty (a variable of a script that is not set) must not: it is refused. A list
    /// without any, which only a file can have, says what it means.
    fn read_given(items: &[String], none: bool) -> Result<Self, String> {
        let parts = items.iter().map(|item| split(item)).collect::<Result<Vec<_>, _>>()?.concat();
        let nothing = none && parts.iter().all(String::is_empty);
        if !nothing && parts.iter().any(String::is_empty) {
            return Err(
                "expected a pattern or a name, found an empty one; leave it out for the default".to_owned()
            );
        }
        Self::read_list(items)
    }

    fn show(&self) -> String {
        self.join(",")
    }
}

/// An enum whose words are its configuration values.
macro_rules! choice {
    ($(#[doc = $about:expr])* pub enum $name:ident { $( $(#[doc = $doc:expr])* $variant:ident = $word:literal, )* }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $( $(#[doc = $doc])* $variant, )* }

        impl $name {
            /// The words, in the order of the reference page.
            pub const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl $crate::config::Value for $name {
            const KIND: &'static str = $crate::config::words!($($word),*);

            fn read(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $( $word => Ok(Self::$variant), )*
                    _ => Err(format!("expected one of {}", Self::WORDS.join(", "))),
                }
            }

            fn show(&self) -> String {
                match self { $( Self::$variant => $word, )* }.to_owned()
            }
        }
    };
}
pub(crate) use choice;

/// `a`, `b`, `c` → "a, b, c", as a constant.
macro_rules! words {
    ($first:literal $(, $word:literal)*) => { concat!($first $(, " or ", $word)*) };
}
pub(crate) use words;
