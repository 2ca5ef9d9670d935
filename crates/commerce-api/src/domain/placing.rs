//! What becomes of orders that are placed together: as if each were placed alone, in the order of their arrival. Pure.

use std::collections::{BTreeMap, HashMap};

use super::order::{Line, Wanted, total};

/// An order that is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Merged, in product order.
    pub(crate) wanted: &'a [Wanted],
    /// Buyer and key, if there is a key.
    pub(crate) key: Option<(i64, &'a str)>,
    /// What makes two requests the same.
    pub(crate) digest: &'a [u8],
}

/// A product that can be bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Units that are left.
    pub(crate) quantity: i64,
    /// Minor units for one.
    pub(crate) price: i64,
}

/// Digest and order of an earlier request, by buyer and key.
pub(crate) type Earlier = HashMap<(i64, String), (Vec<u8>, i64)>;

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is placed, with these lines and this total.
    Place { lines: Vec<Line>, total_amount: i64 },
    /// The answer is that of an order which was placed before.
    Earlier(i64),
    /// The answer is that of this order of the same group.
    Same(usize),
    /// Its key belongs to another request.
    KeyReused,
    /// These products do not exist.
    Unknown(Vec<i64>),
    /// Of these there is not enough.
    Short(Vec<i64>),
    /// Its total does not fit.
    TotalTooLarge,
}

/// Decides about each order; the stock of those that are placed is taken from `offers`.
pub(crate) fn decide_placing(
    asked: &[Asked<'_>],
    offers: &mut BTreeMap<i64, Offer>,
    earlier: &Earlier,
) -> Vec<Verdict> {
    let mut placed_keys: HashMap<(i64, &str), usize> = HashMap::new();
    let mut verdicts = Vec::with_capacity(asked.len());
    for (index, order) in asked.iter().enumerate() {
        let repeated = order.key.and_then(|(user, key)| {
            let (digest, verdict) = match placed_keys.get(&(user, key)) {
                Some(first) => (asked[*first].digest, Verdict::Same(*first)),
                None => {
                    let (digest, order_id) = earlier.get(&(user, key.to_owned()))?;
                    (digest.as_slice(), Verdict::Earlier(*order_id))
                }
            };
            Some(if digest == order.digest { verdict } else { Verdict::KeyReused })
        });
        let verdict = repeated.unwrap_or_else(|| place(order.wanted, offers));
        if let (Verdict::Place { .. }, Some(key)) = (&verdict, order.key) {
            placed_keys.insert(key, index);
        }
        verdicts.push(verdict);
    }
    verdicts
}

/// All lines or none.
fn place(wanted: &[Wanted], offers: &mut BTreeMap<i64, Offer>) -> Verdict {
    let products_where = |is_refused: &dyn Fn(&Wanted) -> bool| -> Vec<i64> {
        wanted.iter().filter(|line| is_refused(line)).map(|line| line.product_id).collect()
    };
    let unknown = products_where(&|line| !offers.contains_key(&line.product_id));
    if !unknown.is_empty() {
        return Verdict::Unknown(unknown);
    }
    let short = products_where(&|line| offers[&line.product_id].quantity < line.quantity);
    if !short.is_empty() {
        return Verdict::Short(short);
    }
    let line = |line: &Wanted| Line {
        product_id: line.product_id,
        quantity: line.quantity,
        unit_price: offers[&line.product_id].price,
    };
    let lines: Vec<Line> = wanted.iter().map(line).collect();
    let Ok(total_amount) = total(&lines) else { return Verdict::TotalTooLarge };
    for line in wanted {
        if let Some(offer) = offers.get_mut(&line.product_id) {
            offer.quantity -= line.quantity;
        }
    }
    Verdict::Place { lines, total_amount }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(lines: &[(i64, i64)]) -> Vec<Wanted> {
        lines
            .iter()
            .map(|(product_id, quantity)| Wanted { product_id: *product_id, quantity: *quantity })
            .collect()
    }

    fn offers(stocks: &[(i64, i64)]) -> BTreeMap<i64, Offer> {
        stocks
            .iter()
            .map(|(product, quantity)| (*product, Offer { quantity: *quantity, price: 10 }))
            .collect()
    }

    fn asked<'a>(wanted: &'a [Wanted], key: Option<(i64, &'a str)>, digest: &'a [u8]) -> Asked<'a> {
        Asked { wanted, key, digest }
    }

    #[test]
    fn a_refused_order_is_refused_alone() {
        let orders = [&[(1, 2)][..], &[(1, 2), (2, 1)], &[(9, 1), (1, 1)], &[(2, 1)], &[(2, 1)]];
        let orders: Vec<Vec<Wanted>> = orders.into_iter().map(wanted).collect();
        let group: Vec<Asked<'_>> = orders.iter().map(|order| asked(order, None, b"")).collect();
        let mut stocks = offers(&[(1, 3), (2, 1)]);
        let verdicts = decide_placing(&group, &mut stocks, &Earlier::new());
        assert!(
            matches!(&verdicts[0], Verdict::Place { total_amount: 20, lines } if lines[0].unit_price == 10)
        );
        assert_eq!(verdicts[1], Verdict::Short(vec![1]));
        assert_eq!(verdicts[2], Verdict::Unknown(vec![9]));
        assert!(matches!(verdicts[3], Verdict::Place { .. }));
        assert_eq!(verdicts[4], Verdict::Short(vec![2]));
        assert_eq!(stocks, offers(&[(1, 1), (2, 0)]));
    }

    #[test]
    fn a_key_is_good_for_one_order_of_its_buyer() {
        let order = wanted(&[(1, 1)]);
        let key = |user, key| Some((user, key));
        let group = [
            asked(&order, key(7, "a"), b"x"),
            asked(&order, key(7, "a"), b"x"),
            asked(&order, key(7, "a"), b"y"),
            asked(&order, key(8, "a"), b"x"),
            asked(&order, key(7, "old"), b"x"),
            asked(&order, key(7, "old"), b"y"),
            // Sold out by now: a refusal is not remembered under its key.
            asked(&order, key(7, "b"), b"x"),
            asked(&order, key(7, "b"), b"y"),
        ];
        let earlier = Earlier::from([((7, "old".to_owned()), (b"x".to_vec(), 99))]);
        let verdicts = decide_placing(&group, &mut offers(&[(1, 2)]), &earlier);
        assert!(matches!(verdicts[0], Verdict::Place { .. }) && matches!(verdicts[3], Verdict::Place { .. }));
        let rest: Vec<&Verdict> = [1, 2, 4, 5, 6, 7].map(|index| &verdicts[index]).to_vec();
        let short = Verdict::Short(vec![1]);
        assert_eq!(
            rest,
            [
                &Verdict::Same(0),
                &Verdict::KeyReused,
                &Verdict::Earlier(99),
                &Verdict::KeyReused,
                &short,
                &short
            ]
        );
    }

    #[test]
    fn a_total_that_does_not_fit_takes_nothing() {
        let order = wanted(&[(1, 2)]);
        let mut stocks = BTreeMap::from([(1, Offer { quantity: 5, price: i64::MAX })]);
        let verdicts = decide_placing(&[asked(&order, None, b"")], &mut stocks, &Earlier::new());
        assert_eq!((&verdicts[0], stocks[&1].quantity), (&Verdict::TotalTooLarge, 5));
    }

    proptest! {
        #[test]
        fn together_they_get_what_they_would_get_one_by_one(
            orders in prop::collection::vec(prop::collection::btree_map(1_i64..6, 1_i64..4, 1..4), 1..40),
            stocks in prop::collection::btree_map(1_i64..5, 0_i64..20, 1..5),
        ) {
            let orders: Vec<Vec<Wanted>> =
                orders.into_iter().map(|lines| wanted(&lines.into_iter().collect::<Vec<_>>())).collect();
            let stocks: Vec<(i64, i64)> = stocks.into_iter().collect();
            let group: Vec<Asked<'_>> = orders.iter().map(|order| asked(order, None, b"")).collect();
            let (mut together, mut alone) = (offers(&stocks), offers(&stocks));
            let verdicts = decide_placing(&group, &mut together, &Earlier::new());
            let singly: Vec<Verdict> = group
                .iter()
                .flat_map(|order| decide_placing(std::slice::from_ref(order), &mut alone, &Earlier::new()))
                .collect();
            prop_assert_eq!(verdicts, singly);
            prop_assert!(together.values().all(|offer| offer.quantity >= 0));
            prop_assert_eq!(together, alone);
        }
    }
}
