//! The truth, recounted from the tables that the events tell about: for the verifier.

use futures_util::Stream;
use sqlx::PgConnection;

/// What the tables say of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct ProductRecount {
    /// The product.
    pub product_id: i64,
    /// Rows of `shop.product_like`.
    pub likes: i64,
    /// Units sold: completed sales less refunds; a cancelled order counts nothing.
    pub units: i64,
    /// The same in minor units.
    pub amount: i64,
    /// Whether nothing is in stock.
    pub sold_out: bool,
    /// The stock's version.
    pub stock_version: i64,
}

/// Every product in the order of its id, as one statement's snapshot, streamed: memory does not grow with the shop.
///
/// # Errors
/// Items are errors of the connection. It must have no statement timeout that a scan of all orders would reach.
pub fn recount(
    connection: &mut PgConnection,
) -> impl Stream<Item = Result<ProductRecount, sqlx::Error>> + Send + '_ {
    sqlx::query_as(
        "with liked as (
             select product_id, count(*) as likes from shop.product_like group by product_id),
         sold as (
             select l.product_id,
                    sum(l.quantity * f.factor)::bigint as units,
                    sum(l.quantity * l.unit_price * f.factor)::bigint as amount
               from shop.order_line l
               join shop.orders o on o.id = l.order_id
               -- A refund takes back; a cancelled sale and its cancellation add up to nothing.
               cross join lateral (
                   select case when o.kind = 'refund' then -1 when o.status = 'completed' then 1 else 0 end
               ) as f(factor)
              group by l.product_id)
         select p.id as product_id,
                coalesce(liked.likes, 0) as likes,
                coalesce(sold.units, 0) as units,
                coalesce(sold.amount, 0) as amount,
                s.quantity = 0 as sold_out,
                s.version as stock_version
           from shop.product p
           join shop.stock s on s.product_id = p.id
           left join liked on liked.product_id = p.id
           left join sold on sold.product_id = p.id
          order by p.id",
    )
    .fetch(connection)
}
