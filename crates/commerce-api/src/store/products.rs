//! `shop.product` with its first stock.

use sqlx::PgConnection;

use super::StoreError;
use crate::domain::NewProduct;

/// The constraint that a taken code breaks.
pub(crate) const CODE_TAKEN: &str = "product_code";

/// Creates the products with their stock rows; answers their ids in the order of `products`, whose codes are distinct.
///
/// # Errors
/// A refusal of [`CODE_TAKEN`] when a code exists.
pub(crate) async fn insert_products(
    connection: &mut PgConnection,
    products: &[NewProduct],
) -> Result<Vec<i64>, StoreError> {
    let codes: Vec<&str> = products.iter().map(|product| product.code.as_str()).collect();
    let names: Vec<&str> = products.iter().map(|product| product.name.as_str()).collect();
    let prices: Vec<i64> = products.iter().map(|product| product.price).collect();
    let stocks: Vec<i64> = products.iter().map(|product| product.stock).collect();
    Ok(sqlx::query_scalar(
        "with wanted as (
             select code, name, price, stock, place
               from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
                    with ordinality as w(code, name, price, stock, place)),
         created as (
             insert into shop.product (code, name, price)
             select code, name, price from wanted order by place
             returning id, code),
         stocked as (
             insert into shop.stock (product_id, quantity)
             select created.id, wanted.stock from created join wanted on wanted.code collate \"C\" = created.code)
         select created.id
           from wanted join created on wanted.code collate \"C\" = created.code
          order by wanted.place",
    )
    .bind(codes)
    .bind(names)
    .bind(prices)
    .bind(stocks)
    .fetch_all(connection)
    .await?)
}

/// Which of the codes exist.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_taken_codes(
    connection: &mut PgConnection,
    products: &[NewProduct],
) -> Result<Vec<String>, StoreError> {
    let codes: Vec<&str> = products.iter().map(|product| product.code.as_str()).collect();
    Ok(sqlx::query_scalar("select code from shop.product where code = any($1) order by code limit 20")
        .bind(codes)
        .fetch_all(connection)
        .await?)
}
