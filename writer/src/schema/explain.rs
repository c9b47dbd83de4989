//! What a refused statement of the dump means to a person: which object, what the server said, what to do.

use pg::Error;

/// `kind`, `schema`, `name` as pg_dump names them.
pub(super) fn explain(error: Error, kind: &str, schema: &str, name: &str) -> Error {
    let object = if schema.is_empty() { name.to_owned() } else { format!("{schema}.{name}") };
    let advice = error.sqlstate().and_then(advice);
    let hint = match (advice, error.hint_text()) {
        (Some(advice), Some(said)) => format!("{advice}; the server says: {said}"),
        (Some(advice), None) => advice.to_owned(),
        (None, Some(said)) => said.to_owned(),
        (None, None) => {
            "create it by hand on the target and use --existing-schema, or leave it out: --exclude-table"
                .to_owned()
        }
    };
    let lost = error.class() == pg::Class::Connection;
    let error =
        error.context(format_args!("{} \"{object}\" can't be created on the target", kind.to_lowercase()));
    if lost { error } else { error.hint(hint) }
}

fn advice(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        // objects of that name
        "42710" | "42P07" | "42723" | "42P06" | "42712" => {
            "the target has an object of that name: drop it there, or use --existing-schema if the target's tables are meant"
        }
        // undefined object, function, schema, table, column
        "42704" | "42883" | "3F000" | "42P01" | "42703" => {
            "the target lacks what it depends on: create that there first (a type or role by its CREATE, an extension by CREATE \
             EXTENSION), or include it in the selection"
        }
        "42501" => {
            "give a role that may create it with --target-admin, or: GRANT CREATE ON DATABASE to the role, and membership in the \
             owners' roles (or --no-owner --no-privileges)"
        }
        // syntax, feature, parameter
        "42601" | "0A000" | "42P17" | "22023" | "42P16" | "42602" => {
            "the target's version doesn't know what the source uses here: use a target at least as new as the source, or leave the \
             object out: --exclude-table"
        }
        // the control file of an extension is missing
        "58P01" => {
            "install the extension's package on the target's host (SELECT * FROM pg_available_extensions lists what is there)"
        }
        "53200" => "raise max_locks_per_transaction on the target and restart it",
        "23505" | "23P01" | "23503" | "23514" | "23502" => {
            "rows on the target don't meet it: look for rows that did not come from the source; if collations differ between the \
             servers, equality may too"
        }
        "55P03" => {
            "another session holds a lock on the table: end it (SELECT pg_blocking_pids(pid), * FROM pg_stat_activity)"
        }
        _ => return None,
    })
}
