//! A dead letter as a message: the bytes that it came with, and in headers why it is here and what is needed to route it again.

use pipeline::envelope::header;
use pipeline::outbox::DeadLetter;

/// What is wrong, for people.
pub const ERROR: &str = "walferry.error";
/// Where: `route`, `payload`, `placement`, `timestamp`, `message`, `produce`.
pub const STAGE: &str = "walferry.error.stage";
/// The event's own id.
pub const ID: &str = "walferry.outbox.id";
/// The outbox table, `schema.name`.
pub const TABLE: &str = "walferry.outbox.table";
/// JSON object of the row's columns but the payload, each as PostgreSQL writes it.
pub const ROW: &str = "walferry.outbox.row";
/// The prefix of a logical message.
pub const PREFIX: &str = "walferry.outbox.prefix";

/// The headers of a letter.
pub(super) fn headers(letter: &DeadLetter, table: Option<&str>) -> Vec<(String, Option<Vec<u8>>)> {
    let text = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let mut headers = vec![
        text(ERROR, &letter.reason),
        text(STAGE, letter.stage.as_str()),
        text(header::POSITION, &letter.position.to_string()),
        (ID.to_owned(), letter.id.as_ref().map(|id| id.clone().into_bytes())),
    ];
    headers.extend(table.map(|table| text(TABLE, table)));
    headers.extend(letter.row.as_ref().map(|row| (ROW.to_owned(), Some(row.clone()))));
    headers.extend(letter.prefix.as_deref().map(|prefix| text(PREFIX, prefix)));
    headers
}
