//! Taobao user behaviour: who did what with which item, when (seconds since 1970, UTC).
//!
//! `pv` is a view, `fav` a like, `buy` an order of one unit at price 0 (the file has no prices), `cart` is ignored.
//! The item's number is the product's code, the user's number the user's id. Nothing in the file names an order: its
//! number is made of the file's digest and the line, so it is the same in every run.

use commerce_api::OrderKind;
use csv::ByteRecord;

use super::entry::{Entry, InvoiceLine, Reason, Visit, code, text, unix_time, whole};

/// The first line of such a file; some editions have none.
pub(super) const HEADER: &str = "user_id,item_id,category_id,behavior,ts";

/// Reads line number `line` of the file with this digest.
pub(super) fn parse(fields: &ByteRecord, digest: &str, line: u64) -> Result<Entry, Reason> {
    let (Some(user), Some(item), Some(behavior), Some(time), 5) =
        (fields.get(0), fields.get(1), fields.get(3), fields.get(4), fields.len())
    else {
        return Err(Reason::FieldCount);
    };
    let user_id = whole(user, Reason::BadCustomer)?;
    if user_id < 1 {
        return Err(Reason::BadCustomer);
    }
    let code = code(item)?.to_owned();
    let at = unix_time(time)?;
    match text(behavior)? {
        "pv" => Ok(Entry::View(Visit { user_id, at, code })),
        "fav" => Ok(Entry::Like(Visit { user_id, at, code })),
        "buy" => Ok(Entry::Line(InvoiceLine {
            kind: OrderKind::Sale,
            invoice: format!("taobao-{}-{line}", digest.get(..16).unwrap_or(digest)),
            user_id: Some(user_id),
            at,
            name: code.clone(),
            code,
            quantity: 1,
            unit_price: 0,
        })),
        "cart" => Ok(Entry::Ignored("cart")),
        _ => Err(Reason::UnknownBehavior),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Splitter;
    use super::{Entry, Reason, parse};

    fn line(text: &str) -> Result<Entry, Reason> {
        parse(Splitter::default().split(text.as_bytes())?, "0123456789abcdef0123", 7)
    }

    #[test]
    fn each_behavior_has_its_meaning() {
        assert!(
            matches!(line("543462,1715,1464116,pv,1511658000"), Ok(Entry::View(visit)) if visit.code == "1715")
        );
        assert!(
            matches!(line("543462,1715,1464116,fav,1511658000"), Ok(Entry::Like(visit)) if visit.user_id == 543_462)
        );
        assert_eq!(line("543462,1715,1464116,cart,1511658000"), Ok(Entry::Ignored("cart")));
        let Ok(Entry::Line(order)) = line("543462,1715,1464116,buy,1511658000") else { panic!("no order") };
        assert_eq!((order.quantity, order.unit_price), (1, 0));
        assert_eq!(order.invoice, "taobao-0123456789abcdef-7");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("543462,1715,1464116,look,1511658000", Reason::UnknownBehavior),
            ("543462,1715,1464116,PV,1511658000", Reason::UnknownBehavior),
            ("0,1715,1464116,pv,1511658000", Reason::BadCustomer),
            ("x,1715,1464116,pv,1511658000", Reason::BadCustomer),
            ("1,,1464116,pv,1511658000", Reason::BadCode),
            ("1,1715,1464116,pv,15116580000", Reason::BadTime),
            ("1,1715,1464116,pv", Reason::FieldCount),
            ("1,1715,1464116,pv,1511658000,", Reason::FieldCount),
        ] {
            assert_eq!(line(text), Err(reason), "{text}");
        }
    }
}
