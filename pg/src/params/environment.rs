//! What libpq reads besides the connection string: variables, home folder, operating system user.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The surroundings of a connection string; a value, so that tests can bring their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<String, String>,
    home: Option<PathBuf>,
    user: Option<String>,
}

impl Environment {
    /// This process's own. Empty variables count as unset, as in libpq for most of them.
    #[must_use]
    pub fn process() -> Environment {
        let variables: HashMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("PG") || name == "HOME" || name == "USER")
            .collect();
        let account = Account::of_process();
        let home = variables.get("HOME").map(PathBuf::from).or(account.as_ref().map(|a| a.home.clone()));
        let user = account.map(|a| a.name).or(variables.get("USER").cloned());
        Environment { variables, home, user }
    }

    /// One with nothing but these variables.
    #[must_use]
    pub fn of(variables: &[(&str, &str)], home: Option<&Path>, user: &str) -> Environment {
        Environment {
            variables: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            home: home.map(Path::to_owned),
            user: Some(user.to_owned()),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A file below the home folder.
    pub(super) fn in_home(&self, path: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(path))
    }
}

/// User ids and names of this machine.
pub(crate) fn accounts() -> Vec<(u32, String)> {
    Account::all().into_iter().map(|account| (account.uid, account.name)).collect()
}

/// An entry of the account database.
struct Account {
    uid: u32,
    name: String,
    home: PathBuf,
}

impl Account {
    fn of_process() -> Option<Account> {
        let uid = process_uid()?;
        Self::all().into_iter().find(|account| account.uid == uid)
    }

    /// Accounts of `/etc/passwd`; a directory service behind NSS is not asked.
    fn all() -> Vec<Account> {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                let uid = fields.nth(1)?.parse().ok()?;
                let home = PathBuf::from(fields.nth(2)?);
                Some(Account { uid, name, home })
            })
            .collect()
    }
}

fn process_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}
