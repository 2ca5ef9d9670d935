//! What one line of a recorded file says.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};
use commerce_api::OrderKind;
use commerce_events::{QUANTITY_MAX, UNIT_PRICE_MAX};
use rust_decimal::{Decimal, RoundingStrategy};

/// Bytes of a product's code, as the api allows.
const CODE_BYTES_MAX: usize = 100;
/// Bytes of a product's name, as the api allows.
const NAME_BYTES_MAX: usize = 500;
/// Bytes of an invoice's number.
const INVOICE_BYTES_MAX: usize = 64;
/// Event times outside these years would be dead-lettered by the consumer.
const FIRST_EVENT_TIME: i64 = 946_684_800; // 2000-01-01
const LAST_EVENT_TIME: i64 = 4_102_444_800; // 2100-01-01

/// A line that counts, or is ignored on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A line of an invoice.
    Line(InvoiceLine),
    /// A product's page was shown.
    View(Visit),
    /// A product was liked.
    Like(Visit),
    /// A kind of line that has no event.
    Ignored(&'static str),
}

/// One line of an invoice; quantity and price are within the bounds of the events' contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvoiceLine {
    pub(super) kind: OrderKind,
    pub(super) invoice: String,
    pub(super) user_id: Option<i64>,
    pub(super) at: DateTime<Utc>,
    pub(super) code: String,
    pub(super) name: String,
    /// At least 1, also for a cancelled line.
    pub(super) quantity: i64,
    /// Minor units.
    pub(super) unit_price: i64,
}

/// A buyer with a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) user_id: i64,
    pub(super) at: DateTime<Utc>,
    pub(super) code: String,
}

/// Why a line does not count. The names stand in the rejects file and in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    TooLong,
    UnbalancedQuote,
    FieldCount,
    NotUtf8,
    BadInvoice,
    OtherInvoice,
    BadCode,
    BadQuantity,
    QuantityNotPositive,
    QuantityNotNegative,
    QuantityTooLarge,
    BadPrice,
    PriceNotPositive,
    PriceTooLarge,
    BadTime,
    BadCustomer,
    UnknownBehavior,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "line_too_long",
            Self::UnbalancedQuote => "unbalanced_quote",
            Self::FieldCount => "field_count",
            Self::NotUtf8 => "not_utf8",
            Self::BadInvoice => "bad_invoice",
            Self::OtherInvoice => "other_invoice",
            Self::BadCode => "bad_code",
            Self::BadQuantity => "bad_quantity",
            Self::QuantityNotPositive => "sale_quantity_not_positive",
            Self::QuantityNotNegative => "cancelled_quantity_not_negative",
            Self::QuantityTooLarge => "quantity_too_large",
            Self::BadPrice => "bad_price",
            Self::PriceNotPositive => "price_not_positive",
            Self::PriceTooLarge => "price_too_large",
            Self::BadTime => "bad_time",
            Self::BadCustomer => "bad_customer",
            Self::UnknownBehavior => "unknown_behavior",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A field that must be text as it stands.
pub(super) fn text(field: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(field).map_err(|_| Reason::NotUtf8)
}

/// A product's code: exact bytes, nothing trimmed.
pub(super) fn code(field: &[u8]) -> Result<&str, Reason> {
    name_like(text(field)?, CODE_BYTES_MAX, Reason::BadCode)
}

/// An invoice's number.
pub(super) fn invoice(field: &[u8]) -> Result<&str, Reason> {
    name_like(text(field)?, INVOICE_BYTES_MAX, Reason::BadInvoice)
}

fn name_like(text: &str, bytes_max: usize, refusal: Reason) -> Result<&str, Reason> {
    let valid = !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    if valid { Ok(text) } else { Err(refusal) }
}

/// A product's name from a free description, made presentable; the code where there is none.
pub(super) fn product_name(description: &[u8], code: &str) -> String {
    let mut name = String::new();
    for character in String::from_utf8_lossy(description).trim().chars() {
        let shown = if character.is_control() { ' ' } else { character };
        if name.len() + shown.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        name.push(shown);
    }
    if name.trim().is_empty() { code.to_owned() } else { name }
}

/// Minor units of a price in major units, rounded half to even.
pub(super) fn minor_units(field: &[u8]) -> Result<i64, Reason> {
    let price = Decimal::from_str_exact(text(field)?.trim()).map_err(|_| Reason::BadPrice)?;
    if price <= Decimal::ZERO {
        return Err(Reason::PriceNotPositive);
    }
    let minor = price.checked_mul(Decimal::ONE_HUNDRED).ok_or(Reason::PriceTooLarge)?;
    let rounded = minor.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven);
    i64::try_from(rounded).ok().filter(|price| *price <= UNIT_PRICE_MAX).ok_or(Reason::PriceTooLarge)
}

/// A whole number, as it stands.
pub(super) fn whole(field: &[u8], refusal: Reason) -> Result<i64, Reason> {
    text(field)?.trim().parse().map_err(|_| refusal)
}

/// Units of a line by its sign: what a sale gives, what a cancellation takes back.
pub(super) fn units(kind: OrderKind, quantity: i64) -> Result<i64, Reason> {
    let units = match kind {
        OrderKind::Sale if quantity <= 0 => return Err(Reason::QuantityNotPositive),
        OrderKind::Refund if quantity >= 0 => return Err(Reason::QuantityNotNegative),
        OrderKind::Sale => quantity,
        OrderKind::Refund => quantity.checked_neg().ok_or(Reason::QuantityTooLarge)?,
    };
    if units <= QUANTITY_MAX { Ok(units) } else { Err(Reason::QuantityTooLarge) }
}

/// A local time without zone, taken as UTC.
pub(super) fn naive_time(field: &[u8]) -> Result<DateTime<Utc>, Reason> {
    let time = NaiveDateTime::parse_from_str(text(field)?.trim(), "%Y-%m-%d %H:%M:%S");
    in_range(time.map_err(|_| Reason::BadTime)?.and_utc())
}

/// Seconds since 1970.
pub(super) fn unix_time(field: &[u8]) -> Result<DateTime<Utc>, Reason> {
    in_range(DateTime::from_timestamp(whole(field, Reason::BadTime)?, 0).ok_or(Reason::BadTime)?)
}

fn in_range(time: DateTime<Utc>) -> Result<DateTime<Utc>, Reason> {
    if (FIRST_EVENT_TIME..LAST_EVENT_TIME).contains(&time.timestamp()) {
        Ok(time)
    } else {
        Err(Reason::BadTime)
    }
}

#[cfg(test)]
mod tests {
    use super::{OrderKind, Reason, minor_units, naive_time, product_name, units, unix_time};

    #[test]
    fn prices_are_rounded_half_to_even() {
        for (price, minor) in [
            ("2.55", Ok(255)),
            ("0.001", Ok(0)),
            ("0.005", Ok(0)),
            ("0.015", Ok(2)),
            ("0.025", Ok(2)),
            ("0.0250000000000000001", Ok(3)),
            ("0.035", Ok(4)),
            (" 38970 ", Ok(3_897_000)),
            ("10000000", Ok(1_000_000_000)),
            ("10000000.01", Err(Reason::PriceTooLarge)),
            ("79228162514264337593543950335", Err(Reason::PriceTooLarge)),
            ("99999999999999999999999999999999", Err(Reason::BadPrice)),
            ("0", Err(Reason::PriceNotPositive)),
            ("-11062.06", Err(Reason::PriceNotPositive)),
            ("", Err(Reason::BadPrice)),
            ("1e3", Err(Reason::BadPrice)),
            ("NaN", Err(Reason::BadPrice)),
            ("1,5", Err(Reason::BadPrice)),
        ] {
            assert_eq!(minor_units(price.as_bytes()), minor, "{price}");
        }
        assert_eq!(minor_units(b"1\xff"), Err(Reason::NotUtf8));
    }

    #[test]
    fn a_quantity_must_have_the_sign_of_its_invoice() {
        for (kind, quantity, expected) in [
            (OrderKind::Sale, 80_995, Ok(80_995)),
            (OrderKind::Refund, -80_995, Ok(80_995)),
            (OrderKind::Sale, 0, Err(Reason::QuantityNotPositive)),
            (OrderKind::Sale, -1, Err(Reason::QuantityNotPositive)),
            (OrderKind::Refund, 1, Err(Reason::QuantityNotNegative)),
            (OrderKind::Refund, 0, Err(Reason::QuantityNotNegative)),
            (OrderKind::Sale, 1_000_001, Err(Reason::QuantityTooLarge)),
            (OrderKind::Refund, i64::MIN, Err(Reason::QuantityTooLarge)),
        ] {
            assert_eq!(units(kind, quantity), expected, "{kind:?} {quantity}");
        }
    }

    #[test]
    fn times_that_a_consumer_would_refuse_are_refused() {
        assert_eq!(naive_time(b"2010-12-01 08:26:00").unwrap().to_rfc3339(), "2010-12-01T08:26:00+00:00");
        assert_eq!(unix_time(b"1511658000").unwrap().to_rfc3339(), "2017-11-26T01:00:00+00:00");
        for time in
            ["1999-12-31 23:59:59", "2100-01-01 00:00:00", "12/1/2010 8:26", "", "2010-13-01 00:00:00"]
        {
            assert_eq!(naive_time(time.as_bytes()), Err(Reason::BadTime), "{time}");
        }
        for time in ["-1", "0", "99999999999999999999", "9223372036854775807", "x"] {
            assert_eq!(unix_time(time.as_bytes()), Err(Reason::BadTime), "{time}");
        }
    }

    #[test]
    fn a_name_is_always_presentable() {
        assert_eq!(product_name(b" LUNCH \0 BOX ", "22423"), "LUNCH   BOX");
        assert_eq!(product_name(b"CAF\xc9", "22423"), "CAF\u{fffd}");
        assert_eq!(product_name(b"  ", "22423"), "22423");
        assert_eq!(product_name("é".repeat(400).as_bytes(), "1").len(), 500);
    }
}
