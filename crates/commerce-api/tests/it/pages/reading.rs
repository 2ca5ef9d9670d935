//! What pages show.

use std::sync::Arc;
use std::time::Duration;

use product_cache::ProductCache;
use reqwest::{Method, StatusCode};
use sqlx::Executor;
use testkit::eventually;

use super::{BUYER, Page, open, order, product, show};
use crate::harness::{Choices, TestShop, api_settings, local_cache};
use crate::outages;

#[tokio::test]
async fn every_page_is_there_in_both_languages() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    let order = order(&shop, cup, 2).await?;
    shop.like(BUYER, cup).await?;
    for (path, english, korean) in [
        ("/".to_owned(), "All products", "전체 상품"),
        ("/?q=%EC%BB%B5&sort=price_asc".to_owned(), "Results for “컵”", "‘컵’ 검색 결과"),
        ("/?brand=%EA%B3%B5%EB%B0%A9&q=".to_owned(), "All brands", "모든 브랜드"),
        (format!("/products/{cup}"), "In stock", "구매 가능"),
        ("/rankings".to_owned(), "30 days", "월간"),
        ("/rankings?period=hourly".to_owned(), "Nothing ranked yet", "아직 순위가 없습니다"),
        ("/likes".to_owned(), "My likes", "내가 좋아하는 상품"),
        ("/orders".to_owned(), "My orders", "내 주문"),
        (format!("/orders/{order}"), "Completed", "주문 완료"),
        ("/nothing".to_owned(), "Nothing here", "페이지를 찾을 수 없습니다"),
    ] {
        for (language, said, not_said) in [("en", english, korean), ("ko", korean, english)] {
            let request = shop.browse(Method::GET, &path).header("x-user-id", BUYER);
            let page = open(request.header("accept-language", language)).await?;
            assert_eq!(page.status == StatusCode::NOT_FOUND, path == "/nothing", "{path} {page:?}");
            assert!(page.has(said) && !page.has(not_said), "{path} {language} {}", page.html);
            assert!(page.has(&format!("<html lang=\"{language}\">")), "{path}");
            assert_eq!(page.header("content-language"), language);
            assert!(page.has(" · Test shop</title>") && page.has("<h1>"), "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_language_that_is_chosen_is_remembered() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let chosen = show(&shop, "/?sort=latest&lang=ko").await?;
    assert!(
        chosen.has("<html lang=\"ko\">") && chosen.has("href=\"/?sort=latest&#38;lang=en\""),
        "{}",
        chosen.html
    );
    let cookie = chosen.header("set-cookie");
    assert!(cookie.starts_with("lang=ko; Path=/; Max-Age="), "{cookie}");
    let later =
        shop.browse(Method::GET, "/rankings").header("cookie", "lang=ko").header("accept-language", "en");
    let later = open(later).await?;
    assert!(later.has("<html lang=\"ko\">") && later.header("set-cookie").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_list_is_sorted_filtered_and_paged() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for name in ["나무 컵", "유리 컵", "접시"] {
        product(&shop, name, "공방", 5).await?;
    }
    product(&shop, "컵 받침", "가게", 5).await?;
    let names = |page: &Page| -> Vec<String> {
        let cards = page.html.split("data-name=\"").skip(1);
        cards.filter_map(|card| Some(card.split_once('"')?.0.to_owned())).collect()
    };
    assert_eq!(names(&show(&shop, "/").await?), ["컵 받침", "접시", "유리 컵", "나무 컵"]);
    assert_eq!(names(&show(&shop, "/?q=컵&brand=공방&sort=price_asc").await?), ["나무 컵", "유리 컵"]);
    let all = show(&shop, "/?brand=&q=&sort=latest").await?;
    assert_eq!(names(&all).len(), 4, "what is left blank asks for nothing");
    assert!(all.has("value=\"가게\"") && all.has("value=\"공방\""), "brands to choose from: {}", all.html);
    let first = show(&shop, "/?size=3&sort=latest").await?;
    assert_eq!(names(&first).len(), 3);
    assert!(
        first.has("rel=\"next\" href=\"/?size=3&#38;sort=latest&#38;page=1\"") && !first.has("rel=\"prev\"")
    );
    let last = show(&shop, "/?size=3&sort=latest&page=1").await?;
    assert_eq!(names(&last), ["나무 컵"]);
    assert!(last.has("rel=\"prev\" href=\"/?size=3&#38;sort=latest\"") && !last.has("rel=\"next\""));
    let none = show(&shop, "/?q=없는").await?;
    assert!(none.has("Nothing found") && names(&none).is_empty());
    Ok(())
}

#[tokio::test]
async fn no_more_brands_are_offered_than_the_limit_but_for_the_chosen_one() -> anyhow::Result<()> {
    let mut api = api_settings();
    api.listed_brands_max = 2;
    let shop = TestShop::start_with(Choices { api, ..Choices::ordinary()? }).await?;
    for brand in ["c", "a", "b", "a"] {
        product(&shop, "컵", brand, 5).await?;
    }
    let options = async |path: &str| anyhow::Ok(show(&shop, path).await?.html.matches("<option").count());
    let sorts_and_all = 7;
    assert_eq!(options("/").await?, sorts_and_all + 2);
    assert_eq!(options("/?brand=c").await?, sorts_and_all + 3);
    Ok(())
}

#[tokio::test]
async fn a_page_says_what_is_counted_and_that_it_is_sold_out() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let (cup, gone) = (product(&shop, "컵", "공방", 5).await?, product(&shop, "접시", "공방", 0).await?);
    shop.count(cup, 1_234, 56, 7_890).await?;
    for path in ["/".to_owned(), format!("/products/{cup}")] {
        let page = show(&shop, &path).await?;
        assert!(page.has("<dd data-count=\"likes\">1,234</dd>"), "{}", page.html);
        assert!(
            page.has("<dd data-count=\"sold\">56</dd>") && page.has("<dd data-count=\"views\">7,890</dd>")
        );
        assert!(page.has("₩12,000"));
    }
    let marked = format!("data-product=\"{gone}\" data-name=\"접시\" data-sold-out");
    assert!(show(&shop, "/").await?.has(&marked));
    let page = show(&shop, &format!("/products/{gone}")).await?;
    assert!(page.has(&marked) && page.has("<fieldset data-order disabled>"), "{}", page.html);
    let page = show(&shop, &format!("/products/{cup}")).await?;
    assert!(!page.has("data-sold-out>") && page.has("<fieldset data-order>"), "{}", page.html);
    Ok(())
}

#[tokio::test]
async fn a_page_records_its_view_once_and_none_when_a_form_leads_to_it() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    show(&shop, &format!("/products/{cup}")).await?;
    let views = shop.events().await?;
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].event_type.as_str(), &views[0].payload["userId"]), ("ProductViewed", &BUYER.into()));
    for path in ["/", "/rankings", "/likes", &format!("/products/{cup}?done=liked")] {
        show(&shop, path).await?;
    }
    assert_eq!(shop.events().await?.len(), 1);
    open(shop.browse(Method::GET, &format!("/products/{cup}?done=whatever"))).await?;
    let events = shop.events().await?;
    assert_eq!((events.len(), events[1].payload.get("userId")), (2, None), "nobody in particular");
    Ok(())
}

#[tokio::test]
async fn without_counts_pages_are_served_and_say_so() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    shop.connect()
        .await?
        .execute("drop table metrics.product_metrics, metrics.product_metrics_hourly cascade")
        .await?;
    let page = show(&shop, &format!("/products/{cup}")).await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.has("Counts cannot be had just now.")
            && page.has("<abbr title=\"This count cannot be had just now\">–")
    );
    let page = show(&shop, "/?sort=likes_desc").await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.has("so the newest products come first") && page.has("컵"), "{}", page.html);
    Ok(())
}

#[tokio::test]
async fn without_its_ranking_the_page_says_so_and_leads_on() -> anyhow::Result<()> {
    let mut choices = Choices { metrics_apart: true, ..Choices::ordinary()? };
    choices.rankings.query_timeout = Duration::from_millis(100);
    let shop = TestShop::start_with(choices).await?;
    let mut blocker = shop.connect_metrics().await?;
    blocker.execute("begin; lock table metrics.product_metrics_hourly in access exclusive mode").await?;
    let page = show(&shop, "/rankings").await?;
    assert_eq!((page.status, page.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(
        page.has("The ranking cannot be had just now") && page.has("aria-current=\"page\">Today"),
        "{}",
        page.html
    );
    blocker.execute("rollback").await?;
    assert_eq!(show(&shop, "/rankings").await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_ranking_shows_places_and_the_product_its_own() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let (cup, plate) = (product(&shop, "컵", "공방", 5).await?, product(&shop, "접시", "공방", 5).await?);
    for (id, views) in [(cup, 10), (plate, 20)] {
        sqlx::query(
            "insert into metrics.product_metrics_hourly (product_id, hour, view_count)
             values ($1, date_trunc('hour', now()), $2)",
        )
        .bind(id)
        .bind(views)
        .execute(&mut shop.connect().await?)
        .await?;
    }
    let page = show(&shop, "/rankings").await?;
    let (first, second) = (page.html.find("접시"), page.html.find("컵"));
    assert!(first.is_some() && first < second, "{}", page.html);
    assert!(page.has("<li value=\"1\">") && page.has("<li value=\"2\">"));
    assert!(show(&shop, &format!("/products/{cup}")).await?.has("No. 2 today"));
    Ok(())
}

#[tokio::test]
async fn without_the_database_a_page_comes_from_the_cache() -> anyhow::Result<()> {
    let cache = Arc::new(local_cache()?);
    let mut api = api_settings();
    api.view_wait = Duration::from_millis(50);
    let shop = TestShop::start_with(Choices { api, cache: cache.clone(), ..Choices::ordinary()? }).await?;
    let (cup, plate) = (product(&shop, "컵", "공방", 5).await?, product(&shop, "접시", "공방", 5).await?);
    show(&shop, &format!("/products/{cup}")).await?;
    eventually("the card is cached", async || Ok(cache.read(&[cup]).await?[0].card.clone())).await?;

    outages::close(&shop.database).await?;
    let page = show(&shop, &format!("/products/{cup}")).await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.has("컵") && page.has(" data-stale>") && page.has("Last known counts"), "{}", page.html);
    for path in ["/".to_owned(), format!("/products/{plate}"), "/orders".to_owned()] {
        let page = show(&shop, &path).await?;
        assert_eq!(
            (page.status, page.header("retry-after")),
            (StatusCode::SERVICE_UNAVAILABLE, "1"),
            "{path}"
        );
        assert!(page.has("We will be right back") && !page.has("database"), "{}", page.html);
    }
    Ok(())
}
