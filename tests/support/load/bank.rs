//! A bank whose books must always balance, beside rows that take every kind of change.
//!
//! A transfer takes from one account, gives to another, and appends one entry to the ledger, whose number comes
//! from a counter row: entries are gapless and numbered in commit order, because the counter's lock is held up
//! to the commit. Everything before that lock runs side by side.
//!
//! `item` has a second unique column, a nullable one, and a text long enough to be stored out of line; its rows
//! are inserted, updated with and without that text, re-keyed, deleted, and swap their unique values.

use super::{Plan, Rng};
use crate::support::Postgres;
use crate::support::canary::ROW;

const START_BALANCE: u64 = 1000;

#[derive(Clone, Copy, Default)]
pub struct Mix {
    pub truncate: bool,
}

/// One row, one text: what is wrong with the books, or NULL.
pub const VIOLATION: &str = "
    SELECT CASE
        WHEN a.total <> a.count * 1000 THEN format('%s accounts hold %s', a.count, a.total)
        WHEN e.count <> coalesce(e.last, 0) OR e.count <> c.last
            THEN format('%s entries, the last is %s, the counter is %s', e.count, e.last, c.last)
        WHEN b.off > 0 THEN format('%s accounts differ from the ledger', b.off)
    END
    FROM (SELECT count(*), coalesce(sum(balance), 0) AS total FROM bank.account) AS a,
         (SELECT count(*), max(number) AS last FROM bank.entry) AS e,
         (SELECT last FROM bank.counter) AS c,
         (SELECT count(*) AS off FROM bank.account JOIN (
              SELECT id, sum(amount) AS moved FROM (
                  SELECT payer AS id, -amount AS amount FROM bank.entry
                  UNION ALL SELECT payee, amount FROM bank.entry) AS moves
              GROUP BY id) AS ledger USING (id)
          WHERE balance <> 1000 + moved) AS b";

/// Makes schema `bank` with so many accounts and as many items.
pub async fn create(server: &Postgres, database: &str, accounts: u64) {
    let statements = format!(
        "CREATE SCHEMA bank;
         CREATE TABLE bank.account (id int PRIMARY KEY, balance bigint NOT NULL, holder text);
         CREATE TABLE bank.counter (one boolean PRIMARY KEY DEFAULT true CHECK (one), last bigint NOT NULL);
         CREATE TABLE bank.entry (
             number bigint PRIMARY KEY,
             payer int NOT NULL REFERENCES bank.account,
             payee int NOT NULL REFERENCES bank.account,
             amount bigint NOT NULL,
             at timestamptz NOT NULL DEFAULT clock_timestamp());
         CREATE TABLE bank.item (
             id bigserial PRIMARY KEY,
             rank bigint NOT NULL UNIQUE,
             owner int REFERENCES bank.account,
             price numeric(12,2) NOT NULL,
             tags text[] NOT NULL DEFAULT '{{}}',
             body text);
         CREATE INDEX ON bank.item (owner);
         CREATE TABLE bank.visit (id bigserial PRIMARY KEY, account int NOT NULL, at timestamptz DEFAULT now());
         INSERT INTO bank.account SELECT i, {START_BALANCE}, '{ROW} holder ' || i FROM generate_series(1, {accounts}) i;
         INSERT INTO bank.counter (last) VALUES (0);
         INSERT INTO bank.item (rank, owner, price, body)
             SELECT i, i, i * 1.01, CASE WHEN i % 5 = 0 THEN {long} ELSE '{ROW}' END
             FROM generate_series(1, {accounts}) i;",
        long = long_text("i::text"),
    );
    server.sql(database, &statements).await;
}

/// 9.6 kB that do not compress into the row.
fn long_text(seed: &str) -> String {
    format!("(SELECT string_agg(md5({seed} || j), '') FROM generate_series(1, 300) j)")
}

pub(super) fn plan(mix: Mix, rng: &mut Rng) -> Plan {
    let mut statements = Vec::new();
    for _ in 0..=rng.below(3) {
        change(mix, rng, &mut statements);
    }
    if rng.percent(10) {
        statements.push("SAVEPOINT a".to_owned());
        change(mix, rng, &mut statements);
        let end = if rng.percent(70) { "ROLLBACK TO a" } else { "RELEASE a" };
        statements.push(end.to_owned());
    }
    if rng.percent(60) {
        transfer(rng, &mut statements);
    }
    Plan { statements, commit: !rng.percent(8) }
}

/// The account that a random number falls on, whatever accounts there are.
fn account(rng: &mut Rng) -> String {
    format!("(SELECT 1 + {} % count(*)::int FROM bank.account)", rng.below(1 << 30))
}

fn some_item(rng: &mut Rng) -> String {
    let from = rng.below(1 << 40);
    format!(
        "(SELECT id FROM bank.item WHERE id >= {from} % (SELECT max(id) + 1 FROM bank.item) ORDER BY id LIMIT 1)"
    )
}

fn transfer(rng: &mut Rng, statements: &mut Vec<String>) {
    let amount = 1 + rng.below(50);
    let (a, b) = (rng.below(1 << 30), rng.below(1 << 30));
    // One statement, so that payer and payee are known to the entry; the counter comes last, its lock is hot.
    statements.push(format!(
        "DO $$
         DECLARE size int; payer int; payee int; number bigint;
         BEGIN
             SELECT count(*) INTO size FROM bank.account;
             payer := 1 + {a} % size;
             payee := 1 + {b} % size;
             UPDATE bank.account SET balance = balance - {amount} WHERE id = payer;
             UPDATE bank.account SET balance = balance + {amount} WHERE id = payee;
             UPDATE bank.counter SET last = last + 1 RETURNING last INTO number;
             INSERT INTO bank.entry VALUES (number, payer, payee, {amount});
         END $$"
    ));
}

fn change(mix: Mix, rng: &mut Rng, statements: &mut Vec<String>) {
    let number = rng.below(1 << 40);
    match rng.below(100) {
        0..25 => {
            let owner = account(rng);
            let body = if rng.percent(20) { long_text(&format!("'{number}'")) } else { format!("'{ROW}'") };
            let rows = 1 + rng.below(5);
            statements.push(format!(
                "INSERT INTO bank.item (rank, owner, price, tags, body)
                 SELECT {number} * 8 + i, {owner}, {price}, ARRAY['t{number}', NULL, 'a \"b\"'], {body}
                 FROM generate_series(1, {rows}) i",
                price = rng.below(100_000) as f64 / 100.0,
            ));
        }
        25..45 => statements.push(format!(
            "UPDATE bank.item SET price = price + 1, owner = NULL WHERE id = {}",
            some_item(rng)
        )),
        45..55 => statements.push(format!(
            "UPDATE bank.item SET body = {}, tags = tags || 'x'::text WHERE id = {}",
            long_text(&format!("'{number}'")),
            some_item(rng)
        )),
        55..65 => statements.push(format!("DELETE FROM bank.item WHERE id = {}", some_item(rng))),
        65..73 => statements.push(format!(
            "UPDATE bank.item SET id = nextval('bank.item_id_seq') WHERE id = {}",
            some_item(rng)
        )),
        73..80 => swap(rng, number, statements),
        80..95 => statements.push(format!("INSERT INTO bank.visit (account) SELECT {}", account(rng))),
        95..97 if mix.truncate => statements.push("TRUNCATE bank.visit RESTART IDENTITY".to_owned()),
        _ => statements.push(format!(
            "DELETE FROM bank.visit WHERE id IN (SELECT id FROM bank.visit ORDER BY id LIMIT {})",
            rng.below(10)
        )),
    }
}

/// Two rows exchange their unique values, which takes a third value on the way.
fn swap(rng: &mut Rng, number: u64, statements: &mut Vec<String>) {
    let (a, b) = (some_item(rng), some_item(rng));
    statements.push(format!(
        "DO $$
         DECLARE a bigint := {a}; b bigint := {b}; rank_a bigint; rank_b bigint;
         BEGIN
             SELECT rank INTO rank_a FROM bank.item WHERE id = a FOR UPDATE;
             SELECT rank INTO rank_b FROM bank.item WHERE id = b FOR UPDATE;
             IF a = b OR rank_a IS NULL OR rank_b IS NULL THEN RETURN; END IF;
             UPDATE bank.item SET rank = -{number} WHERE id = a;
             UPDATE bank.item SET rank = rank_a WHERE id = b;
             UPDATE bank.item SET rank = rank_b WHERE id = a;
         END $$"
    ));
}
