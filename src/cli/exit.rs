//! Exit codes. Scripts of users rest on them: add to them, don't change them.

use pg::{Class, Error};

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done, or equal.
    Done,
    /// 1: failed, a difference was found, a wait ran out, a cutover was rolled back.
    Failed,
    /// 2: bad usage or configuration.
    Usage,
    /// 3: could not verify or look; never reported as equal.
    Unverifiable,
    /// 4: refused by the preflight or a safety check, nothing changed; `status`: no such run.
    Refused,
    /// 130 or 143: a signal ended it; the same command resumes.
    Interrupted,
}

impl Exit {
    /// `signal`: the code of the signal that came, if one did.
    #[must_use]
    pub fn code(self, signal: Option<u8>) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unverifiable => 3,
            Exit::Refused => 4,
            Exit::Interrupted => signal.unwrap_or(130),
        }
    }

    /// What an error means for a command that changes something.
    #[must_use]
    pub fn of(error: &Error) -> Exit {
        match error.class() {
            Class::Usage => Exit::Usage,
            Class::Refuse => Exit::Refused,
            Class::Unverifiable => Exit::Unverifiable,
            Class::Connection | Class::Stop | Class::Failed => Exit::Failed,
        }
    }

    /// What an error means for a command that only looks: whatever kept it from looking is 3.
    #[must_use]
    pub fn of_looking(error: &Error) -> Exit {
        match error.class() {
            Class::Usage => Exit::Usage,
            Class::Failed => Exit::Failed,
            Class::Refuse if error.sqlstate().is_none() => Exit::Refused,
            _ => Exit::Unverifiable,
        }
    }
}
