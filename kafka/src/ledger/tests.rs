use super::*;

fn message(name: &str) -> Waiting {
    Waiting { topic: name.to_owned(), key: None, value: None, headers: Vec::new() }
}

fn ledger() -> (Ledger, watch::Receiver<Durable>) {
    let (sender, receiver) = watch::channel(Durable::default());
    (Ledger::new(sender), receiver)
}

fn sent(ledger: &mut Ledger) -> Vec<(Part, String)> {
    std::iter::from_fn(|| ledger.next_marker()).map(|(part, message)| (part, message.topic)).collect()
}

fn transaction(ledger: &mut Ledger, events: usize, end: u64) -> usize {
    let number = ledger.open();
    ledger.begin(number, message("begin"));
    (0..events).for_each(|_| ledger.sent(number, 300));
    ledger.close(number, Lsn::new(end), message("end"), false);
    number
}

#[test]
fn end_is_sent_after_the_last_event_and_markers_keep_the_order() {
    let (mut ledger, durable) = ledger();
    let one = transaction(&mut ledger, 2, 10);
    let two = transaction(&mut ledger, 1, 20);
    assert_eq!(sent(&mut ledger), [(Part::Begin(one), "begin".to_owned())]);
    // The second one is there before the first one is.
    ledger.acknowledged(Part::Event(two), 300);
    ledger.acknowledged(Part::Event(one), 300);
    assert!(sent(&mut ledger).is_empty());
    ledger.acknowledged(Part::Event(one), 300);
    let names: Vec<String> = sent(&mut ledger).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["end", "begin", "end"]);
    assert_eq!(durable.borrow().flushed, Lsn::ZERO);
    ledger.acknowledged(Part::End(one), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(10));
    assert!(ledger.settled_before(two) && !ledger.settled_before(two + 1));
    ledger.acknowledged(Part::End(two), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(20));
    assert!(ledger.is_empty());
}

#[test]
fn an_idle_position_waits_for_what_is_before_it_and_gives_way_to_the_next() {
    let (mut ledger, durable) = ledger();
    let one = transaction(&mut ledger, 1, 10);
    for lsn in [15, 16, 17] {
        let idle = ledger.open();
        ledger.close(idle, Lsn::new(lsn), message("heartbeat"), true);
    }
    ledger.acknowledged(Part::Event(one), 300);
    let names: Vec<_> = sent(&mut ledger);
    assert_eq!(names.iter().map(|(_, name)| &name[..]).collect::<Vec<_>>(), ["begin", "end"]);
    // The heartbeat does not overtake: a reader that starts would take it for all that is before.
    assert_eq!(durable.borrow().flushed, Lsn::ZERO);
    ledger.acknowledged(Part::End(one), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(10));
    let names = sent(&mut ledger);
    assert_eq!(names.iter().map(|(_, name)| &name[..]).collect::<Vec<_>>(), ["heartbeat"]);
    ledger.acknowledged(names[0].0, 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(17));
}

#[test]
fn a_heartbeat_that_waits_keeps_back_no_transaction_behind_it() {
    let (mut ledger, durable) = ledger();
    let one = transaction(&mut ledger, 1, 10);
    let idle = ledger.open();
    ledger.close(idle, Lsn::new(15), message("heartbeat"), true);
    let two = transaction(&mut ledger, 1, 20);
    ledger.acknowledged(Part::Event(one), 300);
    ledger.acknowledged(Part::Event(two), 300);
    let names: Vec<String> = sent(&mut ledger).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["begin", "end", "begin", "end"]);
    ledger.acknowledged(Part::End(one), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(10));
    ledger.acknowledged(Part::End(two), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(20));
    assert!(ledger.is_empty());
}

#[test]
fn a_heartbeat_goes_out_once_those_that_gave_way_to_it_are_settled() {
    let (mut ledger, durable) = ledger();
    // The first was not sent yet, and the second has a message of its own.
    let (one, two) = (ledger.open(), ledger.open());
    ledger.close(one, Lsn::new(10), message("heartbeat"), true);
    ledger.sent(two, 300);
    ledger.close(two, Lsn::new(20), message("heartbeat"), true);
    ledger.acknowledged(Part::Event(two), 300);
    assert_eq!(sent(&mut ledger), [(Part::End(two), "heartbeat".to_owned())]);
    ledger.acknowledged(Part::End(two), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(20));
}

#[test]
fn without_markers_a_transaction_counts_when_its_events_and_all_before_it_are_there() {
    let (mut ledger, durable) = ledger();
    let (one, two) = (ledger.open(), ledger.open());
    (0..2).for_each(|_| ledger.sent(one, 300));
    ledger.sent(two, 300);
    ledger.acknowledged(Part::Event(one), 300);
    ledger.finish(one, Lsn::new(10));
    ledger.acknowledged(Part::Event(two), 300);
    ledger.finish(two, Lsn::new(20));
    let empty = ledger.open();
    ledger.finish(empty, Lsn::new(30));
    assert_eq!(durable.borrow().flushed, Lsn::ZERO);
    assert!(sent(&mut ledger).is_empty());
    ledger.acknowledged(Part::Event(one), 300);
    assert_eq!(durable.borrow().flushed, Lsn::new(30));
    assert!(ledger.is_empty());
}

#[test]
fn a_heartbeat_waits_for_messages_of_its_own_and_gives_way_to_a_later_one() {
    let (mut ledger, durable) = ledger();
    // Transactions of outbox events alone: each has a message, and no BEGIN.
    let numbers = [10, 20, 30].map(|end| {
        let number = ledger.open();
        ledger.sent(number, 300);
        ledger.close(number, Lsn::new(end), message("heartbeat"), true);
        number
    });
    assert!(sent(&mut ledger).is_empty());
    ledger.acknowledged(Part::Event(numbers[0]), 300);
    ledger.acknowledged(Part::Event(numbers[2]), 300);
    assert!(sent(&mut ledger).is_empty(), "the second one's message is not there");
    assert_eq!(durable.borrow().flushed, Lsn::ZERO, "no position counts that the topics don't have");
    ledger.acknowledged(Part::Event(numbers[1]), 300);
    assert_eq!(sent(&mut ledger), [(Part::End(numbers[2]), "heartbeat".to_owned())]);
    assert_eq!(durable.borrow().flushed, Lsn::ZERO);
    ledger.acknowledged(Part::End(numbers[2]), 0);
    assert_eq!(durable.borrow().flushed, Lsn::new(30));
    assert!(ledger.is_empty());
    assert_eq!(ledger.bytes(), message("heartbeat").bytes());
}

#[test]
fn a_failure_wakes_whoever_waits_and_nothing_more_becomes_durable() {
    let (mut ledger, mut durable) = ledger();
    let one = transaction(&mut ledger, 1, 10);
    ledger.fail(Error::connection("gone"));
    ledger.acknowledged(Part::Event(one), 300);
    sent(&mut ledger);
    ledger.acknowledged(Part::End(one), 0);
    assert_eq!(durable.borrow_and_update().flushed, Lsn::ZERO);
    assert!(durable.has_changed().is_err());
}

#[test]
fn parts_survive_as_numbers() {
    for part in [Part::Event(0), Part::Begin(7), Part::End(usize::MAX >> 2)] {
        assert_eq!(Part::of_opaque(part.to_opaque()), part);
    }
}
