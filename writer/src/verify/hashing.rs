//! How a row becomes two 64-bit numbers that are the same on both servers.
//!
//! From 11 on, `hashtextextended` with two seeds, drawn anew for each comparison so that nobody can prepare rows that collide. Its
//! result depends on the machine's byte order, so both servers are asked for a probe; where they don't agree, or one is older, md5
//! takes its place. Hash functions work on the bytes of the database's encoding: where the two encodings differ, both sides hash the
//! hexadecimal UTF-8 form.

use pg::{Result, Session};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashing {
    function: Function,
    /// Hash the hexadecimal UTF-8 form.
    recode: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Function {
    /// Seeds for the key, and for the row twice.
    Extended([i64; 3]),
    Md5,
}

impl Hashing {
    /// What both servers can do and agree on.
    pub async fn agree(source: &Session, target: &Session) -> Result<Hashing> {
        let (of_source, source_encoding) = probe(source).await?;
        let (of_target, target_encoding) = probe(target).await?;
        let function = if of_source.is_some() && of_source == of_target {
            Function::Extended(seeds())
        } else {
            Function::Md5
        };
        Ok(Hashing { function, recode: source_encoding != target_encoding })
    }

    fn text(&self, text: &str) -> String {
        if self.recode {
            format!("encode(convert_to({text}, 'UTF8'), 'hex') COLLATE \"C\"")
        } else {
            format!("({text}) COLLATE \"C\"")
        }
    }

    /// An int8 from the text of a key.
    pub fn key(&self, text: &str) -> String {
        let text = self.text(text);
        match self.function {
            Function::Extended([seed, _, _]) => format!("hashtextextended({text}, {seed})"),
            Function::Md5 => half(&format!("md5({text})"), 1),
        }
    }

    /// What the innermost query computes of a row's text, once.
    pub fn prepared(&self, text: &str) -> String {
        let text = self.text(text);
        match self.function {
            Function::Extended(_) => text,
            Function::Md5 => format!("md5({text})"),
        }
    }

    /// The two numbers, from a column that holds what `prepared` gave.
    pub fn pair(&self, column: &str) -> [String; 2] {
        match self.function {
            Function::Extended([_, first, second]) => {
                [first, second].map(|seed| format!("hashtextextended({column}, {seed})"))
            }
            Function::Md5 => [half(column, 1), half(column, 17)],
        }
    }
}

/// 16 hexadecimal digits as an int8.
fn half(md5: &str, from: u32) -> String {
    format!("('x' || substr({md5}, {from}, 16))::bit(64)::int8")
}

async fn probe(session: &Session) -> Result<(Option<i64>, String)> {
    let hash = if session.version().major() >= 11 {
        "hashtextextended('walferry: 27 bytes of probe' COLLATE \"C\", 4711)"
    } else {
        "NULL::int8"
    };
    let row = session.query_one(&format!("SELECT {hash}, current_setting('server_encoding')"), &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Three numbers that nobody can foresee.
fn seeds() -> [i64; 3] {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new();
    // The smallest int8 has no literal.
    [1_u8, 2, 3].map(|n| (random.hash_one(n) as i64).max(-i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_from_each_other_and_from_run_to_run() {
        let [a, b, c] = seeds();
        assert!(a != b && b != c && a != c);
        assert_ne!(seeds(), [a, b, c]);
    }

    #[test]
    fn other_encodings_are_hashed_as_utf8() {
        let hashing = Hashing { function: Function::Md5, recode: true };
        assert!(hashing.prepared("r").contains("convert_to(r, 'UTF8')"));
    }
}
