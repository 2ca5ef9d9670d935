//! Recorded files into a real shop.

use std::path::PathBuf;

use commerce_api::EventLog;
use commerce_workload::replay::{Format, ReplayReport, ReplaySettings, run};
use outbox::AppendLimits;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use testkit::{TestDatabase, eventually};

struct Shop {
    database: TestDatabase,
    directory: TempDir,
}

impl Shop {
    async fn create() -> anyhow::Result<Self> {
        let database = TestDatabase::create(&[outbox::migrations(), commerce_api::migrations()]).await?;
        Ok(Self { database, directory: tempfile::tempdir()? })
    }

    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    fn settings(&self, format: Format, path: PathBuf) -> ReplaySettings {
        ReplaySettings {
            format,
            path,
            rejects: Some(self.directory.path().join("rejects.csv")),
            initial_stock: 7,
            json: Some(self.directory.path().join("report.json")),
            database_url: self.database.url().to_owned(),
            log: EventLog::new("t-".to_owned(), AppendLimits::default(), None),
            chunk_lines: 20,
        }
    }

    async fn replay(&self, format: Format, path: PathBuf) -> anyhow::Result<ReplayReport> {
        run(self.settings(format, path)).await
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        self.database.connect().await
    }

    async fn number(&self, sql: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&mut self.connect().await?).await?)
    }

    fn rejects(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.directory.path().join("rejects.csv"))?)
    }

    /// Everything that a replay writes, without what differs between two runs: ids and the grouping into events.
    async fn content(&self) -> anyhow::Result<Vec<String>> {
        let sql = "
            select format('order %s %s %s %s', external_id, kind, user_id, total_amount) from shop.orders
            union all
            select format('line %s %s %s %s %s', o.external_id, l.line, p.code, l.quantity, l.unit_price)
              from shop.order_line l join shop.orders o on o.id = l.order_id join shop.product p on p.id = l.product_id
            union all
            select format('product %s %s %s %s', code, name, price, quantity)
              from shop.product join shop.stock on product_id = id
            union all
            select format('event %s %s %s x%s at %s for %s', e.event_type, o.external_id, p.code, sum((l->>'quantity')::bigint),
                          e.occurred_at, p.price)
              from outbox.event e
             cross join lateral (select convert_from(e.payload, 'UTF8')::jsonb as body) b
             cross join lateral jsonb_array_elements(b.body->'lines') l
              join shop.orders o on o.id = (b.body->>'orderId')::bigint
              join shop.product p on p.id = (l->>'productId')::bigint
             group by e.event_type, o.external_id, p.code, e.occurred_at, p.price
             order by 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&mut self.connect().await?).await?)
    }
}

/// Invoices of three lines; one line of each hundred is bad.
fn retail_file(invoices: usize) -> String {
    let mut file =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n".to_owned();
    for number in 0..invoices {
        let (prefix, sign) = if number % 7 == 3 { ("C", "-") } else { ("", "") };
        let minute = number % 60;
        for line in 0..3 {
            let code = (number * 3 + line) % 41;
            let price = if (number * 3 + line) % 100 == 50 { "0" } else { "1.25" };
            file.push_str(&format!(
                "{prefix}{},code-{code},\"A, \"\"B\"\"\",{sign}{},2011-03-04 05:{minute:02}:00,{price},,UK\r\n",
                500_000 + number,
                line + 1,
            ));
        }
    }
    file
}

#[tokio::test]
async fn a_replay_that_is_killed_in_the_middle_goes_on_and_ends_as_one_run() -> anyhow::Result<()> {
    let whole = Shop::create().await?;
    let file = retail_file(150);
    let expected = whole.replay(Format::OnlineRetail, whole.write("file", file.as_bytes())?).await?;
    assert_eq!((expected.total.rows, expected.total.rejected_rows()), (450, 4));

    let shop = Shop::create().await?;
    let path = shop.write("file", file.as_bytes())?;
    // Whoever writes invoice 500100 waits for this transaction: the replay stands still in the chunk of its lines.
    let mut blocker = shop.connect().await?;
    let mut tx = blocker.begin().await?;
    sqlx::query("insert into shop.orders (external_id, total_amount) values ('500100', 0)")
        .execute(&mut *tx)
        .await?;
    let running = tokio::spawn(run(shop.settings(Format::OnlineRetail, path.clone())));
    let done = "select coalesce(max(lines_done), 0) from shop.replay_progress";
    eventually("the replay stands before line 302", async || {
        Ok((shop.number(done).await? == 301).then_some(()))
    })
    .await?;
    running.abort();
    assert!(running.await.is_err());
    tx.rollback().await?;

    let resumed = shop.replay(Format::OnlineRetail, path).await?;
    assert_eq!(resumed.resumed_after_line, 301);
    assert_eq!(resumed.added.rows, 150);
    assert_eq!(resumed.total, expected.total);
    assert_eq!(shop.content().await?, whole.content().await?);
    assert_eq!(shop.rejects()?, whole.rejects()?);
    assert_eq!(shop.rejects()?.lines().count(), 5);
    Ok(())
}

#[tokio::test]
async fn two_replays_of_one_file_at_once_add_it_once() -> anyhow::Result<()> {
    let whole = Shop::create().await?;
    let file = retail_file(150);
    whole.replay(Format::OnlineRetail, whole.write("file", file.as_bytes())?).await?;
    let shop = Shop::create().await?;
    let path = shop.write("file", file.as_bytes())?;
    let mut settings = shop.settings(Format::OnlineRetail, path);
    settings.rejects = None;
    settings.chunk_lines = 1;
    let one = tokio::spawn(run(settings.clone()));
    let other = tokio::spawn(run(settings));
    let (one, other) = (one.await?, other.await?);
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
    for error in [one.err(), other.err()].into_iter().flatten() {
        assert!(format!("{error:#}").contains("another replay of the same file"), "{error:#}");
    }
    // The chunks are others, so the events are; their sums are the same.
    assert_eq!(shop.content().await?, whole.content().await?);
    Ok(())
}

#[tokio::test]
async fn a_repeated_replay_adds_nothing_and_says_so() -> anyhow::Result<()> {
    let shop = Shop::create().await?;
    let file = retail_file(30);
    let plain = shop.write("file.csv", file.as_bytes())?;
    let first = shop.replay(Format::OnlineRetail, plain.clone()).await?;
    let content = shop.content().await?;
    let rejects = shop.rejects()?;
    let packed = shop.write("file.csv.zst", &zstd::encode_all(file.as_bytes(), 3)?)?;
    for path in [plain, packed] {
        std::fs::remove_file(shop.directory.path().join("rejects.csv"))?;
        let again = shop.replay(Format::OnlineRetail, path).await?;
        assert!(again.already_finished);
        assert!(again.to_string().contains("nothing was added"), "{again}");
        assert_eq!(again.added.rows, 0);
        assert_eq!(again.total, first.total);
        assert_eq!(shop.content().await?, content);
        assert_eq!(shop.rejects()?, rejects, "the rejects are written again");
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(shop.directory.path().join("report.json"))?)?;
    assert_eq!(report["already_finished"], true);
    assert_eq!(report["total"]["sale_orders"], first.total.sale_orders);
    Ok(())
}

#[tokio::test]
async fn every_bad_line_is_named_and_the_rest_counts() -> anyhow::Result<()> {
    let shop = Shop::create().await?;
    let mut file = retail_file(0).into_bytes();
    let lines: [&[u8]; 10] = [
        b"1,a,x,2,2011-03-04 05:06:00,0.005,17850,UK",
        b"1,\"a,x,2,2011-03-04 05:06:00,1,,UK",
        b"",
        b"1,a\xff,x,2,2011-03-04 05:06:00,1,,UK",
        b"C1,A,x,-3,2011-03-04 05:06:00,0.015,,UK",
        b"A1,a,x,1,2011-03-04 05:06:00,1,,UK",
        b"1,a,x,99999999999999999999999,2011-03-04 05:06:00,1,,UK",
        b"1,a,x",
        b"1,a,x,1,2011-03-04 05:06:00,-1,,UK",
        b"1,a,\xff\0,2,2011-03-04 05:06:00,3,17850,UK",
    ];
    file.extend(lines.join(b"\r\n".as_slice()));
    let report = shop.replay(Format::OnlineRetail, shop.write("file", &file)?).await?;
    assert_eq!((report.total.rows, report.total.sale_lines, report.total.cancelled_lines), (10, 2, 1));
    assert_eq!((report.total.sale_orders, report.total.cancelled_invoices), (1, 1));
    let rejects =
        String::from_utf8_lossy(&std::fs::read(shop.directory.path().join("rejects.csv"))?).into_owned();
    let named: Vec<&str> = rejects.lines().skip(1).collect();
    let expected = [
        "3,unbalanced_quote,",
        "4,field_count,",
        "5,not_utf8,",
        "7,other_invoice,",
        "8,bad_quantity,",
        "9,field_count,",
        "10,price_not_positive,",
    ];
    assert_eq!(named.len(), expected.len());
    for (line, start) in named.iter().zip(expected) {
        assert!(line.starts_with(start), "{line} {start}");
    }
    let prices = "select sum(unit_price * quantity)::bigint from shop.order_line";
    assert_eq!(shop.number(prices).await?, 300 * 2 + 2 * 3);
    assert_eq!(shop.number("select count(*) from shop.product").await?, 2, "codes differ by exact bytes");
    Ok(())
}

#[tokio::test]
async fn behaviour_becomes_views_likes_and_orders() -> anyhow::Result<()> {
    let shop = Shop::create().await?;
    let file = "user_id,item_id,category_id,behavior,ts\n\
                1,10,1,pv,1511658000\n1,10,1,pv,1511658001\n1,10,1,fav,1511658002\n1,10,1,fav,1511658003\n\
                2,10,1,fav,1511658004\n2,20,1,cart,1511658005\n2,20,1,buy,1511658006\n2,20,1,buy,1511658006\n";
    let path = shop.write("file", file.as_bytes())?;
    let mut settings = shop.settings(Format::Taobao, path.clone());
    // The second like of the same buyer comes in another transaction.
    settings.chunk_lines = 3;
    let report = run(settings).await?;
    let total = &report.total;
    assert_eq!((total.views, total.likes, total.already_liked), (2, 2, 1));
    assert_eq!((total.sale_lines, total.sale_orders, total.sale_units), (2, 2, 2));
    assert_eq!(total.ignored.get("cart"), Some(&1));
    assert_eq!((report.products, total.accounted_rows()), (2, 8));
    let times = "select count(*) from outbox.event
                  where event_type = 'ProductViewed' and occurred_at >= '2017-11-26 01:00:00Z' and occurred_at < '2017-11-26 01:00:02Z'";
    assert_eq!(shop.number(times).await?, 2);
    let other = shop.replay(Format::OnlineRetail, path).await;
    assert!(other.is_err_and(|error| error.to_string().contains("as format taobao")));
    Ok(())
}

#[tokio::test]
async fn a_file_of_another_format_changes_nothing() -> anyhow::Result<()> {
    let shop = Shop::create().await?;
    let path = shop.write("file", retail_file(3).as_bytes())?;
    assert!(shop.replay(Format::Taobao, path.clone()).await.is_err());
    assert!(shop.content().await?.is_empty());
    assert_eq!(shop.replay(Format::OnlineRetail, path).await?.total.sale_orders, 3);
    Ok(())
}
