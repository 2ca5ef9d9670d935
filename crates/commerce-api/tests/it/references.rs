//! Order lines name products and orders that exist, whatever else happens at the same time.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use testkit::TestDatabase;

/// The constraint and SQLSTATE of a refusal.
type Refusal = (Option<String>, Option<String>);

/// Two products and two orders, each with a line: order 1 of product 1, order 2 of product 2; product 3 and order 3 have none.
async fn database() -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::create(&[outbox::migrations(), commerce_api::migrations()]).await?;
    let mut connection = database.connect().await?;
    connection
        .execute(
            "insert into shop.product (code, name, price) select 'c' || n, 'n', 1 from generate_series(1, 3) n;
             insert into shop.orders (user_id, total_amount) select n, 1 from generate_series(1, 3) n;
             insert into shop.order_line select n, 1, n, 1, 1 from generate_series(1, 2) n",
        )
        .await?;
    Ok(database)
}

/// What is said of these statements; `None` when they are taken.
async fn refusal(connection: &mut PgConnection, sql: &str) -> anyhow::Result<Option<Refusal>> {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) => {
            Ok(Some((error.constraint().map(str::to_owned), error.code().map(Into::into))))
        }
        Err(error) => Err(error.into()),
    }
}

/// The refusal of a foreign key of this name.
fn breaks(constraint: &str) -> Option<Refusal> {
    Some((Some(constraint.to_owned()), Some("23503".to_owned())))
}

const PRODUCT: &str = "order_line_product";
const ORDER: &str = "order_line_order_id_fkey";

#[tokio::test]
async fn a_line_names_what_exists() -> anyhow::Result<()> {
    let database = database().await?;
    let mut connection = database.connect().await?;
    for (sql, constraint) in [
        ("insert into shop.order_line values (3, 1, 9, 1, 1)", PRODUCT),
        ("insert into shop.order_line values (9, 1, 3, 1, 1)", ORDER),
        // One of many.
        (
            "insert into shop.order_line select 3, n, 1 + n / 100, 1, 1 from generate_series(1, 300) n",
            PRODUCT,
        ),
        (
            "insert into shop.order_line select 1 + n / 100, n, 3, 1, 1 from generate_series(101, 300) n",
            ORDER,
        ),
        ("update shop.order_line set product_id = 9 where order_id = 1", PRODUCT),
        ("update shop.order_line set order_id = 9 where order_id = 1", ORDER),
        // With their order, as orders are placed.
        (
            "with placed as (insert into shop.orders (user_id, total_amount) values (1, 1) returning id)
             insert into shop.order_line select id, 1, 9, 1, 1 from placed",
            PRODUCT,
        ),
    ] {
        assert_eq!(refusal(&mut connection, sql).await?, breaks(constraint), "{sql}");
    }
    for sql in [
        "insert into shop.order_line select 3, n, 1 + n % 3, 1, 1 from generate_series(1, 300) n",
        "with placed as (insert into shop.orders (user_id, total_amount) values (1, 1) returning id)
         insert into shop.order_line select id, n, n, 1, 1 from placed, generate_series(1, 3) n",
        "begin; savepoint s; insert into shop.orders (id, total_amount) overriding system value values (77, 1);
         release s; insert into shop.order_line values (77, 1, 3, 1, 1); commit",
        "update shop.order_line set product_id = 3 where order_id = 1",
    ] {
        assert_eq!(refusal(&mut connection, sql).await?, None, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_line_names_is_not_taken_away() -> anyhow::Result<()> {
    let database = database().await?;
    let mut connection = database.connect().await?;
    for (sql, constraint) in [
        ("delete from shop.product where id = 1", PRODUCT),
        ("delete from shop.orders where id >= 1", ORDER),
        // To a new number.
        ("update shop.product set id = default where id = 1", PRODUCT),
        ("update shop.orders set id = default where id = 1", ORDER),
        ("truncate shop.product cascade", PRODUCT),
        ("truncate shop.orders", ORDER),
    ] {
        assert_eq!(refusal(&mut connection, sql).await?, breaks(constraint), "{sql}");
    }
    for sql in [
        "delete from shop.product where id = 3",
        "delete from shop.orders where id = 3",
        "update shop.product set name = 'other'",
        "update shop.orders set status = 'cancelled'",
        // Together with what names it.
        "with gone as (delete from shop.order_line where order_id = 1) delete from shop.orders where id = 1",
        "truncate shop.order_line, shop.orders",
        "truncate shop.product cascade",
    ] {
        assert_eq!(refusal(&mut connection, sql).await?, None, "{sql}");
    }
    Ok(())
}

/// Begins `first`, has `second` wait for it, ends the first by `end`; what is said of the second.
async fn one_after_the_other(first: &str, end: &str, second: &str) -> anyhow::Result<Option<Refusal>> {
    let database = database().await?;
    let (mut one, mut other) = (database.connect().await?, database.connect().await?);
    other.execute("set lock_timeout = '60s'").await?;
    let begun = format!("begin; {first}");
    assert_eq!(refusal(&mut one, &begun).await?, None, "{first}");
    let ended = async {
        database.somebody_waits("the second waits for the first").await?;
        one.execute(AssertSqlSafe(end.to_owned())).await?;
        anyhow::Ok(())
    };
    let (refused, ()) = tokio::try_join!(refusal(&mut other, second), ended)?;
    let dangling: i64 = sqlx::query_scalar(
        "select count(*) from shop.order_line l
          where not exists (select from shop.product p where p.id = l.product_id)
             or not exists (select from shop.orders o where o.id = l.order_id)",
    )
    .fetch_one(&mut one)
    .await?;
    assert_eq!(dangling, 0, "{first}; {end}; {second}");
    Ok(refused)
}

#[tokio::test]
async fn who_writes_lines_and_who_deletes_wait_for_each_other() -> anyhow::Result<()> {
    let line = "insert into shop.order_line values (3, 1, 3, 1, 1)";
    for (delete, constraint) in
        [("delete from shop.product where id = 3", PRODUCT), ("delete from shop.orders where id = 3", ORDER)]
    {
        assert_eq!(one_after_the_other(line, "commit", delete).await?, breaks(constraint));
        assert_eq!(one_after_the_other(line, "rollback", delete).await?, None);
        assert_eq!(one_after_the_other(delete, "commit", line).await?, breaks(constraint));
        assert_eq!(one_after_the_other(delete, "rollback", line).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_with_one_snapshot_takes_nothing_away() -> anyhow::Result<()> {
    let database = database().await?;
    let (mut old, mut connection) = (database.connect().await?, database.connect().await?);
    for delete in [
        "delete from shop.product where id = 3",
        "delete from shop.orders where id = 3",
        "truncate shop.orders",
    ] {
        // Its snapshot is from before the line.
        old.execute("begin isolation level repeatable read; select from shop.order_line").await?;
        connection.execute("insert into shop.order_line values (3, 1, 3, 1, 1)").await?;
        assert_eq!(refusal(&mut old, delete).await?, Some((None, Some("0A000".to_owned()))), "{delete}");
        old.execute("rollback").await?;
        connection.execute("delete from shop.order_line where order_id = 3").await?;
    }
    // Lines may be written under any: what was taken away meanwhile is noticed.
    old.execute("begin isolation level repeatable read; select from shop.order_line").await?;
    connection.execute("delete from shop.product where id = 3").await?;
    let refused = refusal(&mut old, "insert into shop.order_line values (3, 1, 3, 1, 1)").await?;
    assert_eq!(refused, Some((None, Some("40001".to_owned()))));
    Ok(())
}
