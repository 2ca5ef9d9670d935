//! What clients were told of each of their commands.

use std::collections::BTreeMap;
use std::fmt;

/// Units by product.
pub(super) type Lines = BTreeMap<i64, i64>;

/// What a client was told of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Placed(i64),
    Refused,
}

/// An order that was asked for.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) lines: Lines,
    pub(super) verdict: Verdict,
}

/// What was done to the like of one buyer and product.
#[derive(Debug, Default)]
pub(super) struct Liked {
    pub(super) is_liked: bool,
    /// How often it was given where there was none.
    pub(super) given: u64,
    /// How often it was taken back where there was one.
    pub(super) taken: u64,
}

/// What a page said about its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    Yes,
    No,
    /// It said so, or it was not served to the end.
    Unknown,
}

/// The ledger of one client, or of all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By buyer and key.
    pub(super) orders: BTreeMap<(i64, String), Ordered>,
    /// By buyer and product.
    pub(super) likes: BTreeMap<(i64, i64), Liked>,
    /// By visitor, each of whom looks at one page once: the product, and what the page said.
    pub(super) views: BTreeMap<i64, (i64, Recorded)>,
    /// Commands that got a definite answer.
    pub(super) acknowledged: u64,
    /// Requests whose process was killed before they were answered.
    pub(super) interrupted: u64,
    /// Commands of these that turned out to be executed when they were sent again.
    pub(super) found_done: u64,
}

impl Ledger {
    /// Adds what another client was told; no two have a buyer or visitor in common.
    pub(super) fn merge(&mut self, other: Self) {
        self.orders.extend(other.orders);
        self.likes.extend(other.likes);
        self.views.extend(other.views);
        self.acknowledged += other.acknowledged;
        self.interrupted += other.interrupted;
        self.found_done += other.found_done;
    }

    /// Forgets that one order was placed, one view recorded, and one like given.
    pub(super) fn refuse_one_of_each(&mut self) {
        let placed = |ordered: &&mut Ordered| ordered.verdict != Verdict::Refused;
        if let Some(ordered) = self.orders.values_mut().find(placed) {
            ordered.verdict = Verdict::Refused;
        }
        if let Some(view) = self.views.values_mut().find(|view| view.1 == Recorded::Yes) {
            view.1 = Recorded::No;
        }
        let given = self.likes.iter().find(|(_, liked)| liked.is_liked).map(|(pair, _)| *pair);
        given.and_then(|pair| self.likes.remove(&pair));
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placed = self.orders.values().filter(|ordered| ordered.verdict != Verdict::Refused).count();
        let views = |said| self.views.values().filter(|view| view.1 == said).count();
        let changes: u64 = self.likes.values().map(|liked| liked.given + liked.taken).sum();
        writeln!(f, "{:<36}{:>10}", "commands acknowledged", self.acknowledged)?;
        writeln!(f, "{:<36}{:>10}", "requests cut off by a kill", self.interrupted)?;
        writeln!(f, "{:<36}{:>10}", "of these executed all the same", self.found_done)?;
        writeln!(f, "{:<36}{placed:>10}", "orders placed")?;
        writeln!(f, "{:<36}{:>10}", "orders refused", self.orders.len() - placed)?;
        writeln!(f, "{:<36}{changes:>10}", "likes given and taken back")?;
        writeln!(f, "{:<36}{:>10}", "views recorded", views(Recorded::Yes))?;
        writeln!(f, "{:<36}{:>10}", "views not recorded", views(Recorded::No))?;
        writeln!(f, "{:<36}{:>10}", "views of which nobody knows", views(Recorded::Unknown))
    }
}
