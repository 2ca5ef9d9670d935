//! UCI Online Retail: invoice lines of a shop in 2010 and 2011.
//!
//! A line counts when its unit price is above 0 and its invoice is an ordinary one with a quantity above 0 (a sale),
//! or begins with `C` with a quantity below 0 (cancelled). Codes are distinct by exact bytes. An ordinary invoice
//! begins with a digit; others (`A…`, bad debts) are rejected. The file's times are the shop's local ones (London)
//! without a zone, and are taken as UTC.

use commerce_api::OrderKind;
use csv::ByteRecord;

use super::entry::{
    Entry, InvoiceLine, Reason, code, invoice, minor_units, naive_time, product_name, text, units, whole,
};

/// The first line of such a file.
pub(super) const HEADER: &str =
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";

/// Reads one line.
pub(super) fn parse(fields: &ByteRecord) -> Result<Entry, Reason> {
    let (
        Some(number),
        Some(stock_code),
        Some(description),
        Some(quantity),
        Some(date),
        Some(price),
        Some(customer),
        8,
    ) = (
        fields.get(0),
        fields.get(1),
        fields.get(2),
        fields.get(3),
        fields.get(4),
        fields.get(5),
        fields.get(6),
        fields.len(),
    )
    else {
        return Err(Reason::FieldCount);
    };
    let invoice = invoice(number)?;
    let kind = kind(invoice)?;
    let code = code(stock_code)?;
    let unit_price = minor_units(price)?;
    let quantity = units(kind, whole(quantity, Reason::BadQuantity)?)?;
    Ok(Entry::Line(InvoiceLine {
        kind,
        invoice: invoice.to_owned(),
        user_id: user(customer)?,
        at: naive_time(date)?,
        code: code.to_owned(),
        name: product_name(description, code),
        quantity,
        unit_price,
    }))
}

fn kind(invoice: &str) -> Result<OrderKind, Reason> {
    match invoice.as_bytes().first() {
        Some(b'0'..=b'9') => Ok(OrderKind::Sale),
        Some(b'C') => Ok(OrderKind::Refund),
        _ => Err(Reason::OtherInvoice),
    }
}

/// A quarter of the lines have no customer. Some editions of the file write numbers as `17850.0`.
fn user(field: &[u8]) -> Result<Option<i64>, Reason> {
    let customer = text(field)?.trim();
    if customer.is_empty() {
        return Ok(None);
    }
    let number = customer.strip_suffix(".0").unwrap_or(customer).parse::<i64>();
    number.ok().filter(|id| *id > 0).map(Some).ok_or(Reason::BadCustomer)
}

#[cfg(test)]
mod tests {
    use super::super::fields::Splitter;
    use super::{Entry, OrderKind, Reason, parse};

    fn line(text: &[u8]) -> Result<Entry, Reason> {
        parse(Splitter::default().split(text)?)
    }

    #[test]
    fn a_sale_and_a_cancelled_line_are_taken() {
        let sale =
            line(b"536365,85123A,\"HEART, \"\"WHITE\"\"\",6,2010-12-01 08:26:00,2.55,17850,United Kingdom");
        let Ok(Entry::Line(sale)) = sale else { panic!("{sale:?}") };
        assert_eq!(
            (sale.kind, sale.quantity, sale.unit_price, sale.user_id),
            (OrderKind::Sale, 6, 255, Some(17_850))
        );
        assert_eq!(sale.name, "HEART, \"WHITE\"");
        let refund = line(b"C536379,D,Discount,-1,2010-12-01 09:41:00,27.50,,United Kingdom");
        let Ok(Entry::Line(refund)) = refund else { panic!("{refund:?}") };
        assert_eq!(
            (refund.kind, refund.quantity, refund.unit_price, refund.user_id),
            (OrderKind::Refund, 1, 2_750, None)
        );
    }

    #[test]
    fn codes_are_exact_bytes() {
        let code = |code: &str| match line(format!("1,{code},x,1,2010-12-01 08:26:00,1,,UK").as_bytes()) {
            Ok(Entry::Line(line)) => line.code,
            other => panic!("{other:?}"),
        };
        for exact in ["85123A", "85123a", "15056BL ", "BANK CHARGES", "gift_0001_20"] {
            assert_eq!(code(exact), exact);
        }
    }

    #[test]
    fn every_other_line_is_rejected_with_its_reason() {
        let tail = "2010-12-01 08:26:00,1.00,,UK";
        for (text, reason) in [
            (format!("536365,1,x,0,{tail}"), Reason::QuantityNotPositive),
            (format!("536365,1,x,-5,{tail}"), Reason::QuantityNotPositive),
            (format!("C536365,1,x,5,{tail}"), Reason::QuantityNotNegative),
            (format!("A563185,B,Adjust bad debt,1,{tail}"), Reason::OtherInvoice),
            (format!("c536365,1,x,-5,{tail}"), Reason::OtherInvoice),
            (format!(",1,x,1,{tail}"), Reason::BadInvoice),
            (format!("{},1,x,1,{tail}", "1".repeat(65)), Reason::BadInvoice),
            (format!("1, ,x,1,{tail}"), Reason::BadCode),
            (format!("1,a\0b,x,1,{tail}"), Reason::BadCode),
            (format!("1,{},x,1,{tail}", "c".repeat(101)), Reason::BadCode),
            (format!("1,1,x,one,{tail}"), Reason::BadQuantity),
            (format!("1,1,x,1.5,{tail}"), Reason::BadQuantity),
            (format!("1,1,x,99999999999999999999,{tail}"), Reason::BadQuantity),
            (format!("1,1,x,9999999999,{tail}"), Reason::QuantityTooLarge),
            (format!("1,1,x,1,{tail},more"), Reason::FieldCount),
            (format!("1,1,x, y,1,{tail}"), Reason::FieldCount),
            ("1,1,x,1".to_owned(), Reason::FieldCount),
            (String::new(), Reason::FieldCount),
            (format!("1,1,\"x,1,{tail}"), Reason::UnbalancedQuote),
            ("1,1,x,1,2010-12-01 08:26:00,0,,UK".to_owned(), Reason::PriceNotPositive),
            ("1,1,x,1,2010-12-01 08:26:00,-1,,UK".to_owned(), Reason::PriceNotPositive),
            ("1,1,x,1,yesterday,1,,UK".to_owned(), Reason::BadTime),
            ("1,1,x,1,2010-12-01 08:26:00,1,someone,UK".to_owned(), Reason::BadCustomer),
            ("1,1,x,1,2010-12-01 08:26:00,1,0,UK".to_owned(), Reason::BadCustomer),
        ] {
            assert_eq!(line(text.as_bytes()), Err(reason), "{text}");
        }
        assert_eq!(line(b"1,\xff,x,1,2010-12-01 08:26:00,1,,UK"), Err(Reason::NotUtf8));
        assert!(
            line(b"1,1,\xff,1,2010-12-01 08:26:00,1,17850.0,\xff").is_ok(),
            "only what counts must be text"
        );
    }
}
