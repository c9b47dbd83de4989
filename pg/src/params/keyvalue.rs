//! Keyword/value strings: `host=db user='o''no'` with backslash escapes.
//!
//! Messages never quote the text: any piece of it may belong to a password.

use super::keyword::Given;
use crate::{Error, Result};

pub(super) fn parse(text: &str, given: &mut Given) -> Result<()> {
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(());
        }
        let mut keyword = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            keyword.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next() != Some('=') {
            return Err(Error::usage("missing \"=\" in the connection string")
                .hint("quote a value that holds spaces: password='two words'"));
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        if rest.next_if_eq(&'\'').is_some() {
            loop {
                match rest.next() {
                    Some('\'') => break,
                    Some('\\') => value.extend(rest.next()),
                    Some(c) => value.push(c),
                    None => return Err(Error::usage("unterminated quoted string in the connection string")),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
                match c {
                    '\\' => value.extend(rest.next()),
                    c => value.push(c),
                }
            }
        }
        given.set(&keyword, value)?;
    }
}
