//! Compares what clients were told with what the tables say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::books::Books;
use super::ledger::{Ledger, Lines, Recorded, Verdict};

/// What is wrong, a line each; nothing when all is right. `stock` is what there was in the beginning.
pub(super) fn judge(ledger: &Ledger, stock: &Lines, books: &Books) -> Vec<String> {
    let mut wrong = Vec::new();
    judge_orders(ledger, books, &mut wrong);
    judge_events_of_orders(books, &mut wrong);
    judge_stock(stock, books, &mut wrong);
    judge_likes(ledger, books, &mut wrong);
    judge_views(ledger, books, &mut wrong);
    wrong
}

/// Each key is the order that its client was told of, and no other.
fn judge_orders(ledger: &Ledger, books: &Books, wrong: &mut Vec<String>) {
    let mut told = BTreeSet::new();
    let keys = books
        .orders
        .iter()
        .flat_map(|(id, order)| order.keys.iter().map(move |key| ((order.user, key), *id)));
    let stored: BTreeMap<(i64, &String), i64> = keys.collect();
    for ((user, key), asked) in &ledger.orders {
        match (asked.verdict, stored.get(&(*user, key))) {
            (Verdict::Placed(id), Some(found)) if id == *found => {
                told.insert(id);
                let lines = books.orders.get(&id).map(|order| &order.lines);
                if lines != Some(&asked.lines) {
                    wrong.push(format!("order {id} has other lines: {lines:?} for {:?}", asked.lines));
                }
            }
            (Verdict::Placed(id), None) => wrong.push(format!("order {id} of key {key} is lost")),
            (Verdict::Placed(id), Some(found)) => {
                wrong.push(format!("order {id} of key {key} is order {found}"));
            }
            (Verdict::Refused, Some(found)) => {
                wrong.push(format!("key {key} was refused and is order {found}"));
            }
            (Verdict::Refused, None) => {}
        }
    }
    for id in books.orders.keys().filter(|id| !told.contains(*id)) {
        wrong.push(format!("nobody was told of order {id}"));
    }
}

/// Each order has one event, and each event an order.
fn judge_events_of_orders(books: &Books, wrong: &mut Vec<String>) {
    for (id, order) in &books.orders {
        let events = books.completed.get(id).map_or(&[][..], Vec::as_slice);
        match events {
            [(user, lines)] if (user, lines) == (&order.user, &order.lines) => {}
            [event] => wrong.push(format!("the event of order {id} says {event:?}")),
            _ => wrong.push(format!("order {id} has {} events", events.len())),
        }
    }
    for id in books.completed.keys().filter(|id| !books.orders.contains_key(*id)) {
        wrong.push(format!("an event tells of order {id}, which is not there"));
    }
}

/// What was sold is missing, and nothing else; what came to nothing was said to, once.
fn judge_stock(stock: &Lines, books: &Books, wrong: &mut Vec<String>) {
    let mut sold = Lines::new();
    for (product, quantity) in books.orders.values().flat_map(|order| &order.lines) {
        *sold.entry(*product).or_default() += quantity;
    }
    for (product, units) in stock {
        let (left, sold) = (books.stock.get(product).copied(), sold.remove(product).unwrap_or_default());
        if left != Some(units - sold) {
            wrong.push(format!(
                "{left:?} units are left of product {product}, {units} less {sold} were expected"
            ));
        }
        let depleted = books.depleted.get(product).copied().unwrap_or_default();
        if depleted != u64::from(left == Some(0)) {
            wrong.push(format!("product {product} was {depleted} times sold out, {left:?} are left"));
        }
    }
    for product in
        sold.into_keys().chain(books.depleted.keys().copied()).filter(|product| !stock.contains_key(product))
    {
        wrong.push(format!("product {product}, which is not there, was sold"));
    }
}

/// Each like is there or not as its buyer was told, and had an event whenever that changed.
fn judge_likes(ledger: &Ledger, books: &Books, wrong: &mut Vec<String>) {
    for (pair, liked) in &ledger.likes {
        let (user, product) = pair;
        if books.likes.contains(pair) != liked.is_liked {
            wrong.push(format!("{user} likes {product}: {} in the table, {liked:?}", !liked.is_liked));
        }
        let events = |of: &BTreeMap<(i64, i64), u64>| of.get(pair).copied().unwrap_or_default();
        let (given, taken) = (events(&books.given), events(&books.taken));
        if given != liked.given {
            wrong.push(format!("{user} likes {product}: {given} events of giving it, {liked:?}"));
        }
        if taken != liked.taken {
            wrong.push(format!("{user} likes {product}: {taken} events of taking it back, {liked:?}"));
        }
    }
    let stored = books.likes.iter().chain(books.given.keys()).chain(books.taken.keys());
    for (user, product) in stored.filter(|pair| !ledger.likes.contains_key(pair)) {
        wrong.push(format!("nobody was told of the like of {user} for {product}"));
    }
}

/// Each view has one event if its page said so, none if the page said that, and one at most otherwise.
fn judge_views(ledger: &Ledger, books: &Books, wrong: &mut Vec<String>) {
    for (visitor, (product, recorded)) in &ledger.views {
        let events = books.viewed.get(visitor).map_or(&[][..], Vec::as_slice);
        let is_right = match (recorded, events) {
            (Recorded::Yes | Recorded::Unknown, [viewed]) => viewed == product,
            (Recorded::No | Recorded::Unknown, []) => true,
            _ => false,
        };
        if !is_right {
            let count = events.len();
            wrong.push(format!(
                "visitor {visitor} of {product}: his view has {count} events, he was told {recorded:?}"
            ));
        }
    }
    for visitor in books.viewed.keys().filter(|visitor| !ledger.views.contains_key(visitor)) {
        wrong.push(format!("nobody was told of the view of {visitor}"));
    }
}
