//! `shop.product` with its first stock.

use sqlx::PgConnection;

use super::StoreError;
use crate::domain::NewProduct;
use crate::domain::product::ProductFacts;

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
    let names: Vec<&str> = products.iter().map(|product| product.facts.name.as_str()).collect();
    let brands: Vec<Option<&str>> = products.iter().map(|product| product.facts.brand.as_deref()).collect();
    let prices: Vec<i64> = products.iter().map(|product| product.facts.price).collect();
    let stocks: Vec<i64> = products.iter().map(|product| product.stock).collect();
    Ok(sqlx::query_scalar(
        "with wanted as (
             select code, name, brand, price, stock, place
               from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
                    with ordinality as w(code, name, brand, price, stock, place)),
         created as (
             insert into shop.product (code, name, brand, price)
             select code, name, brand, price from wanted order by place
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
    .bind(brands)
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

/// What buyers read of a product.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn find_facts(
    connection: &mut PgConnection,
    product_id: i64,
) -> Result<Option<ProductFacts>, StoreError> {
    Ok(sqlx::query_as("select name, brand, price from shop.product where id = $1")
        .bind(product_id)
        .fetch_optional(connection)
        .await?)
}

/// Replaces what buyers read of a product; whether there is such a product.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn update_facts(
    connection: &mut PgConnection,
    product_id: i64,
    facts: &ProductFacts,
) -> Result<bool, StoreError> {
    let done = sqlx::query("update shop.product set name = $2, brand = $3, price = $4 where id = $1")
        .bind(product_id)
        .bind(&facts.name)
        .bind(&facts.brand)
        .bind(facts.price)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Prices of those of the products that exist.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn list_prices(
    connection: &mut PgConnection,
    product_ids: &[i64],
) -> Result<Vec<(i64, i64)>, StoreError> {
    Ok(sqlx::query_as("select id, price from shop.product where id = any($1)")
        .bind(product_ids)
        .fetch_all(connection)
        .await?)
}
