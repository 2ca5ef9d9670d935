//! Nothing that somebody wrote is ever markup, nothing comes from anywhere else, and pages stay small.

use reqwest::Method;
use reqwest::header::ACCEPT_ENCODING;

use super::{BUYER, Page, open, order, product, show};
use crate::harness::TestShop;

/// Bytes of the first page with everything that it needs, as they go over the wire.
const WIRE_BYTES_MAX: usize = 60_000;
/// Requests that it takes.
const REQUESTS_MAX: usize = 10;

/// What a page makes a browser ask for.
fn linked(page: &Page) -> Vec<String> {
    let links = page.html.split("<link ").skip(1).filter_map(|link| link.split_once("href=\""));
    let scripts = page.html.split("<script ").skip(1).filter_map(|script| script.split_once("src=\""));
    let images = page.html.split("<img ").skip(1).filter_map(|image| image.split_once("src=\""));
    let sources = links.chain(scripts).chain(images).filter_map(|(_, rest)| rest.split_once('"'));
    sources.map(|(path, _)| path.to_owned()).collect()
}

#[tokio::test]
async fn what_somebody_wrote_is_never_markup() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let hostile =
        "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}'; drop table shop.product;--";
    let id = product(&shop, hostile, "<b onclick=\"x\">&'", 5).await?;
    let order = order(&shop, id, 1).await?;
    shop.like(BUYER, id).await?;
    sqlx::query(
        "insert into metrics.product_metrics_hourly (product_id, hour, view_count)
         values ($1, date_trunc('hour', now()), 5)",
    )
    .bind(id)
    .execute(&mut shop.connect().await?)
    .await?;
    let search = "/?q=%3Cscript%3Ealert(1)%3C/script%3E%22%27";
    let brand = "/?brand=%3Cb%20onclick%3D%22x%22%3E%26%27&sort=latest";
    let paths = [
        "/".to_owned(),
        search.to_owned(),
        brand.to_owned(),
        format!("/products/{id}"),
        format!("/orders/{order}"),
        "/likes".to_owned(),
        "/rankings".to_owned(),
        "/nothing/%3Cscript%3E?a=%3Cscript%3E%22".to_owned(),
    ];
    for path in paths {
        let page = show(&shop, &path).await?;
        for markup in ["<script>", "<img", "<b ", "onclick=\"", "49'"] {
            assert!(!page.has(markup), "{path} {markup} {}", page.html);
        }
        let is_named = !path.starts_with("/nothing") && !path.starts_with("/?q");
        assert!(!is_named || page.has("&#60;script&#62;alert(1)"), "{path} {}", page.html);
    }
    assert_eq!(shop.number("select count(*) from shop.product").await?, 1);
    Ok(())
}

#[tokio::test]
async fn every_page_is_sent_with_the_headers_that_keep_it_safe() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let cup = product(&shop, "컵", "공방", 5).await?;
    for path in ["/", &format!("/products/{cup}"), "/orders", "/likes", "/rankings", "/nothing", "/?page=x"] {
        let page = show(&shop, path).await?;
        assert_eq!(
            page.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            "{path}"
        );
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(page.header("cache-control"), "no-store", "{path}: it is the buyer's own");
        for inline in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(!page.has(inline), "{path} {inline} {}", page.html);
        }
        for script in page.html.split("<script").skip(1) {
            assert!(script.starts_with(" type=\"module\" src=\"/assets/"), "{path} {script}");
        }
    }
    let anyones = open(shop.browse(Method::GET, "/")).await?;
    assert_eq!(anyones.header("cache-control"), "private, no-cache");
    Ok(())
}

#[tokio::test]
async fn the_first_page_is_small_and_needs_few_requests() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    for number in 0..20 {
        product(
            &shop,
            &format!("The quiet notebook, dotted, number {number}"),
            &format!("Brand {number}"),
            5,
        )
        .await?;
    }
    let page = open(shop.browse(Method::GET, "/")).await?;
    let mut paths = linked(&page);
    assert!(paths.len() >= 3, "{paths:?}");
    paths.push("/".to_owned());
    let mut wire = 0;
    for path in &paths {
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
        let request = shop.browse(Method::GET, path).header(ACCEPT_ENCODING, "gzip, deflate, br, zstd");
        let response = request.send().await?;
        assert_eq!(response.status(), 200, "{path}");
        let is_compressed = response.headers().get("content-encoding").is_some_and(|value| value == "gzip");
        let headers: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let bytes = response.bytes().await?.len();
        assert!(is_compressed || bytes < 1_000, "{path}: {bytes} bytes");
        println!("{path}: {bytes} bytes, {headers} of headers");
        wire += headers + bytes;
    }
    println!("{wire} bytes in {} requests", paths.len());
    assert!(paths.len() <= REQUESTS_MAX && wire <= WIRE_BYTES_MAX, "{} requests, {wire} bytes", paths.len());
    Ok(())
}

#[tokio::test]
async fn files_are_kept_for_good_under_names_that_change_with_them() -> anyhow::Result<()> {
    let shop = TestShop::start().await?;
    let page = open(shop.browse(Method::GET, "/")).await?;
    for path in linked(&page) {
        let file = open(shop.browse(Method::GET, &path)).await?;
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{path}");
        let digest = path.split('.').nth(1).unwrap_or_default();
        assert!(digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{path}");
        let other = path.replace(digest, "0123456789abcdef");
        assert_eq!(open(shop.browse(Method::GET, &other)).await?.status.as_u16(), 404, "{other}");
    }
    Ok(())
}
