//! Every class of anomaly, planted, is found by its name.

use super::*;
use crate::checkers::search::{kinds, op};
use crate::history::Time;
use crate::outcome::Outcome::{Info, Ok};

fn found(ops: &[Op]) -> Vec<String> {
    kinds(check, ops)
}

fn message(number: u64) -> Message {
    Message { channel: "a/b".to_string(), publisher: 3, connection: 4000, number }
}

fn hear(ear: u64, numbers: &[u64], start: Time) -> Op {
    let heard = numbers.iter().map(|number| ("a/b".to_string(), message(*number).to_string()));
    op(Action::Listen(ear, heard.collect()), start, start + 1, Ok)
}

fn published() -> Vec<Op> {
    (1..=3)
        .map(|number| op(Action::Publish(message(number)), 0, 1, if number == 2 { Info } else { Ok }))
        .collect()
}

fn after_published(ops: &[Op]) -> Vec<String> {
    found(&[&published()[..], ops].concat())
}

#[test]
fn messages_say_what_they_are() {
    assert_eq!(Message::parse(&message(7).to_string()), Some(message(7)));
    assert_eq!(Message::parse("7/x/3/a"), None);
}

#[test]
fn messages_in_order_some_of_them_lost() {
    assert!(after_published(&[hear(1, &[1, 3], 2), hear(2, &[2], 2)]).is_empty());
    assert!(after_published(&[hear(1, &[1], 2), hear(1, &[2, 3], 4)]).is_empty());
}

#[test]
fn messages_twice_out_of_order_and_from_nowhere() {
    assert_eq!(after_published(&[hear(1, &[1, 1], 2)]), ["message twice or out of order"]);
    assert_eq!(after_published(&[hear(1, &[3], 2), hear(1, &[2], 4)]), ["message twice or out of order"]);
    assert_eq!(after_published(&[hear(1, &[9], 2)]), ["foreign message"]);
    let elsewhere = Action::Listen(1, vec![("c".to_string(), message(1).to_string())]);
    assert_eq!(after_published(&[op(elsewhere, 2, 3, Ok)]), ["foreign message"]);
}

#[test]
fn crossed_replies() {
    assert!(found(&[op(Action::Tagged(2, Vec::new()), 0, 1, Ok)]).is_empty());
    assert_eq!(found(&[op(Action::Tagged(2, vec!["x".to_string()]), 0, 1, Ok)]), ["crossed reply"]);
}
