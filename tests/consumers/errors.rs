//! What a handler's own errors become, and what it does not say.

use std::fmt;

use inbox::{DeadLetters, Failure, Handler, Message, Transaction, Worker};
use serde::Deserialize;
use serde_json::json;

use super::{NOTES, Notes, Rig, Sent};

/// Does things that a handler should not.
struct Careless;

#[derive(Deserialize)]
enum Event {
    Noted {
        seq: i32,
    },
    /// Goes on after an error of the database, as if there had been none.
    Swallowed,
    /// Asks for a row that is not there.
    Absent,
    /// Its statement is canceled, and it says so with an error of its own.
    Wrapped,
}

#[derive(Debug)]
struct Own(tokio_postgres::Error);

impl fmt::Display for Own {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the stock could not be asked")
    }
}

impl std::error::Error for Own {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Handler for Careless {
    type Event = Event;

    async fn handle(&self, tx: &Transaction<'_>, event: Event, message: &Message) -> Result<(), Failure> {
        let insert = "INSERT INTO notes (key, seq) VALUES ($1, $2)";
        match event {
            Event::Noted { seq } => {
                tx.execute(insert, &[&message.key, &seq]).await?;
            }
            Event::Swallowed => {
                tx.execute(insert, &[&message.key, &2]).await?;
                if let Err(error) = tx.execute("INSERT INTO once VALUES (1)", &[]).await {
                    assert_eq!(error.code().unwrap().code(), "23505");
                }
            }
            Event::Absent => {
                tx.query_one("SELECT FROM notes WHERE seq = -7", &[]).await?;
            }
            Event::Wrapped => {
                tx.execute("SELECT 1 FROM gate WHERE open OR pg_sleep(20) IS NULL", &[])
                    .await
                    .map_err(Own)?;
            }
        }
        Ok(())
    }
}

async fn letters(rig: &Rig<'_>) -> String {
    let lines = "SELECT coalesce(string_agg(id || ' ' || stage || ' ' || attempts || ' ' || error, E'\n' ORDER BY id), '')
                 FROM inbox.dead_letters";
    rig.server.value(&rig.name, lines).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_handler_swallows_is_a_dead_letter_and_not_a_rollback_in_silence() {
    let rig =
        Rig::new(1, &format!("{NOTES}; CREATE TABLE once (id int PRIMARY KEY); INSERT INTO once VALUES (1)"))
            .await;
    rig.event("swallowed", "k", "Swallowed", &json!(null)).await;
    rig.event("good", "k", "Noted", &json!({"seq": 1})).await;
    let mut options = rig.options();
    options.dead_letters = DeadLetters::Table;
    let worker = rig.worker(options.clone(), Careless);
    worker.wait("both", |stats| stats.handled() + stats.dead_letters() == 2).await;
    worker.stop().await;
    let found = letters(&rig).await;
    assert!(found.starts_with("swallowed handle 5 ") && found.contains("SAVEPOINT"), "{found}");
    assert_eq!(rig.count("SELECT count(*) FROM notes WHERE seq = 1").await, 1);
    // Tried again, it is no more than it was.
    let worker = Worker::new(options, inbox::plain(rig.server.uri(&rig.name).parse().unwrap()));
    let replayed = worker.replay(&Careless).await.unwrap();
    assert_eq!((replayed.handled, replayed.failed), (0, 1));
    assert!(letters(&rig).await.starts_with("swallowed handle 6 "));
    assert_eq!(rig.count("SELECT count(*) FROM notes").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_there_is_a_dead_letter_and_what_is_behind_it_goes_on() {
    let rig = Rig::new(1, NOTES).await;
    rig.event("absent", "k", "Absent", &json!(null)).await;
    rig.event("good", "k", "Noted", &json!({"seq": 1})).await;
    let mut options = rig.options();
    options.dead_letters = DeadLetters::Table;
    let worker = rig.worker(options, Careless);
    worker.wait("the one behind it", |stats| stats.handled() == 1).await;
    assert_eq!(worker.stop().await.dead_letters(), 1);
    assert!(letters(&rig).await.starts_with("absent handle 5 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_surroundings_is_so_in_an_error_of_the_handlers_own_too() {
    let schema = format!("{NOTES}; CREATE TABLE gate (open bool); INSERT INTO gate VALUES (false)");
    let rig = Rig::new(1, &schema).await;
    rig.server.sql("postgres", &format!("ALTER DATABASE {} SET statement_timeout = '200ms'", rig.name)).await;
    rig.event("wrapped", "k", "Wrapped", &json!(null)).await;
    let mut options = rig.options();
    options.dead_letters = DeadLetters::Table;
    let worker = rig.worker(options, Careless);
    worker
        .wait("more tries than a letter has", |stats| stats.retries() > 8 || stats.dead_letters() > 0)
        .await;
    rig.server.sql(&rig.name, "SET statement_timeout = 0; UPDATE gate SET open = true").await;
    worker.wait("the event", |stats| stats.handled() == 1 || stats.dead_letters() > 0).await;
    assert_eq!(worker.stop().await.dead_letters(), 0, "{}", letters(&rig).await);
}

/// Too long for the index of `inbox.processed`, and it can't be made shorter.
fn long_id() -> String {
    let mut state = 7u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    (0..4000).map(|_| letter()).filter(|letter| *letter != '"').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_the_inbox_can_t_hold_keeps_nothing_back() {
    let rig = Rig::new(1, NOTES).await;
    let headers = vec![("id", long_id()), ("eventType", "Noted".to_owned())];
    rig.send(Sent { key: "k", value: r#"{"seq":1}"#, headers }).await;
    rig.event("good", "k", "Noted", &json!({"seq": 2})).await;
    let mut options = rig.options();
    options.dead_letters = DeadLetters::Table;
    let worker = rig.worker(options, Notes);
    worker.wait("the one behind it", |stats| stats.handled() == 1).await;
    assert_eq!(worker.stop().await.dead_letters(), 1);
    let found = letters(&rig).await;
    assert!(found.starts_with(&format!("{}/0/0 handle 5 ", rig.name)), "{found}");
}

/// As `emit` publishes them: the event's id, and then the headers that were given.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_header_id_is_not_the_events_id() {
    let rig = Rig::new(1, NOTES).await;
    for (id, seq) in [("1", 1), ("2", 2)] {
        let headers = vec![("id", id.to_owned()), ("eventType", "Noted".into()), ("id", "x".to_owned())];
        rig.send(Sent { key: "k", value: &format!(r#"{{"seq":{seq}}}"#), headers }).await;
    }
    let worker = rig.worker(rig.options(), Notes);
    worker.wait("both", |stats| stats.handled() + stats.duplicates() == 2).await;
    assert_eq!(worker.stop().await.duplicates(), 0);
    assert_eq!(rig.count("SELECT count(*) FROM notes").await, 2);
}
