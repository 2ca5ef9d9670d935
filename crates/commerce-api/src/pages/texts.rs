//! Every word of the pages, in both languages: one table, so that none can lack one.
//!
//! `{}` stands for what a page fills in. Product names, brands and the shop's name are data and stand as they are.

use std::fmt::Display;

use crate::language::Language;

/// Declares the words, so that none can be without its row.
macro_rules! texts {
    ($($key:ident $english:literal, $korean:literal;)*) => {
        /// The words of one language.
        pub(crate) struct Texts { $(pub(crate) $key: &'static str),* }

        static ENGLISH: Texts = Texts { $($key: $english),* };
        static KOREAN: Texts = Texts { $($key: $korean),* };

        /// The table, for tests.
        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($key), $english, $korean)),*];
    };
}

texts! {
    skip "Skip to the content", "본문으로 건너뛰기";
    main_navigation "Main", "주 메뉴";
    language "Language", "언어";
    products "Products", "상품";
    rankings "Rankings", "랭킹";
    likes "Likes", "좋아요";
    orders "Orders", "주문";
    my_likes "My likes", "내가 좋아하는 상품";
    my_orders "My orders", "내 주문";
    footer "Counts on these pages are exact: each view, like and sale counts once.", "이 페이지의 숫자는 정확합니다. 조회, 좋아요, 판매는 각각 한 번씩만 집계됩니다.";

    search "Search", "검색";
    search_products "Search products", "상품 검색";
    search_results "Results for “{}”", "‘{}’ 검색 결과";
    all_products "All products", "전체 상품";
    sort "Sort by", "정렬";
    sort_latest "Newest", "최신순";
    sort_price_asc "Price, low to high", "낮은 가격순";
    sort_price_desc "Price, high to low", "높은 가격순";
    sort_likes_desc "Most liked", "좋아요순";
    sort_sales_desc "Best selling", "판매순";
    sort_views_desc "Most viewed", "조회순";
    brand "Brand", "브랜드";
    all_brands "All brands", "모든 브랜드";
    apply "Apply", "적용";
    clear "Clear all", "전체 해제";
    sorted_by_latest "Counts cannot be had just now, so the newest products come first.", "지금은 집계를 불러올 수 없어 최신순으로 보여 드립니다.";
    no_products "No products here yet", "아직 상품이 없습니다";
    no_products_hint "Come back a little later.", "잠시 후 다시 방문해 주세요.";
    nothing_found "Nothing found", "검색 결과가 없습니다";
    nothing_found_hint "Try another word, or another brand.", "다른 검색어나 브랜드를 선택해 보세요.";
    pages "Pages", "페이지";
    previous "Previous", "이전";
    next "Next", "다음";
    page_number "Page {}", "{}페이지";

    sold_out "Sold out", "품절";
    in_stock "In stock", "구매 가능";
    sold "Sold", "판매";
    views "Views", "조회";
    no_count "This count cannot be had just now", "지금은 이 수치를 불러올 수 없습니다";
    stale "Last known counts: newer ones cannot be had just now.", "마지막으로 확인된 수치입니다. 지금은 최신 집계를 불러올 수 없습니다.";
    counts_away "Counts cannot be had just now. Everything else works.", "지금은 집계를 불러올 수 없습니다. 다른 기능은 그대로 이용하실 수 있습니다.";
    product_code "Product code", "상품 코드";
    rank_today "No. {} today", "오늘 {}위";
    more_of_brand "More of {}", "{} 상품 더 보기";
    like "Like", "좋아요";
    unlike "Liked", "좋아요 취소";
    quantity "Quantity", "수량";
    order "Order", "주문하기";
    sold_out_hint "This product is sold out. It can be ordered as soon as it is back.", "품절된 상품입니다. 재입고되면 바로 주문하실 수 있습니다.";
    sign_in "Sign in", "로그인";
    sign_out "Sign out", "로그아웃";
    sign_in_to_order "Sign in to order or like", "로그인하고 주문하기";
    token "Access token", "액세스 토큰";
    token_hint "It begins with ct_ and comes from the shop. It is asked for once; after that this browser is signed in.", "ct_로 시작하며 쇼핑몰에서 발급합니다. 한 번만 입력하면 이 브라우저에서 로그인이 유지됩니다.";
    token_wrong "This token is not valid. It may have been mistyped, expired or revoked.", "유효하지 않은 토큰입니다. 잘못 입력했거나 만료 또는 폐기된 토큰일 수 있습니다.";
    token_not_buyers "This token is not for buying.", "구매에 사용할 수 없는 토큰입니다.";
    account_unknown "It cannot be told just now whether you are signed in. Please try again in a moment.", "지금은 로그인 상태를 확인할 수 없습니다. 잠시 후 다시 시도해 주세요.";
    not_signed_in "You are not signed in.", "로그인하지 않았습니다.";
    liked_done "You like this product now.", "좋아요를 눌렀습니다.";
    unliked_done "You do not like this product any more.", "좋아요를 취소했습니다.";
    now_sold_out "{} is sold out now.", "{} 상품이 품절되었습니다.";
    now_in_stock "{} can be ordered again.", "{} 상품을 다시 주문할 수 있습니다.";

    ordered_done "Thank you. Your order is placed.", "감사합니다. 주문이 완료되었습니다.";
    cancelled_done "Your order is cancelled.", "주문이 취소되었습니다.";
    order_number "Order {}", "주문 {}";
    ordered_at "Ordered", "주문 일시";
    status "Status", "상태";
    status_completed "Completed", "주문 완료";
    status_cancelled "Cancelled", "취소됨";
    product "Product", "상품";
    unit_price "Price", "단가";
    amount "Amount", "금액";
    total "Total", "합계";
    cancel_order "Cancel this order", "주문 취소";
    back_to_orders "All my orders", "내 주문 전체 보기";
    no_orders "No orders yet", "주문 내역이 없습니다";
    no_orders_hint "What you order is listed here.", "주문하신 상품이 여기에 표시됩니다.";
    no_likes "No likes yet", "좋아하는 상품이 없습니다";
    no_likes_hint "Products that you like are listed here.", "좋아요를 누른 상품이 여기에 표시됩니다.";
    to_products "See all products", "상품 보러 가기";
    gone_product "Product {}", "상품 {}";

    hourly "This hour", "시간";
    daily "Today", "일간";
    weekly "7 days", "주간";
    monthly "30 days", "월간";
    period "Period", "기간";
    rankings_lead "What is in demand: views, likes and sales of {}", "조회, 좋아요, 판매를 합산한 인기 상품 · {}";
    calculated_at "As of {}", "{} 기준";
    no_ranking "Nothing ranked yet", "아직 순위가 없습니다";
    no_ranking_hint "A ranking begins with the first view.", "첫 조회가 집계되면 순위가 시작됩니다.";
    ranking_away "The ranking cannot be had just now", "지금은 랭킹을 불러올 수 없습니다";
    ranking_away_hint "Please try again in a moment. The shop itself is open.", "잠시 후 다시 시도해 주세요. 상품과 주문은 그대로 이용하실 수 있습니다.";

    error_code "Code {}", "코드 {}";
    bad_request "That request cannot be served", "요청을 처리할 수 없습니다";
    unauthenticated "Please sign in", "로그인이 필요합니다";
    unauthenticated_hint "This page is for buyers who are signed in.", "로그인한 구매자를 위한 페이지입니다.";
    forbidden "That is not allowed", "허용되지 않은 요청입니다";
    forbidden_hint "The form did not come from this shop, or it is too old. Please open the page again and send it once more.", "이 쇼핑몰에서 보낸 요청이 아니거나 오래된 양식입니다. 페이지를 새로 열어 다시 시도해 주세요.";
    not_found "Nothing here", "페이지를 찾을 수 없습니다";
    not_found_hint "The page does not exist, or it is not yours to see.", "존재하지 않거나 볼 수 없는 페이지입니다.";
    too_many "That was a little fast", "요청이 너무 많습니다";
    too_many_hint "Please wait a moment, then go on.", "잠시 기다렸다가 다시 시도해 주세요.";
    unavailable "We will be right back", "잠시 후 다시 이용해 주세요";
    unavailable_hint "The shop is busy or a part of it is away. Please try again in a moment.", "이용이 많거나 시스템 일부를 사용할 수 없습니다. 잠시 후 다시 시도해 주세요.";
    internal "Something went wrong", "오류가 발생했습니다";
    internal_hint "That is our fault, not yours. Please try again.", "저희 쪽 문제입니다. 다시 시도해 주세요.";
    order_sold_out "There is not enough left of this product for your order.", "재고가 부족하여 주문할 수 없습니다.";
    order_quantity "Please choose a quantity from 1 to {}.", "수량은 1개부터 {}개까지 선택할 수 있습니다.";
    order_key_reused "An order was placed with this form before. See your orders; to order once more, send the form below.", "이 양식으로 이미 주문하셨습니다. 내 주문을 확인해 주세요. 추가로 주문하시려면 아래에서 다시 주문해 주세요.";
    order_unknown "It is not certain that the order was placed. Send this form once more: it never orders twice.", "주문 완료 여부를 확인하지 못했습니다. 이 양식을 다시 보내 주세요. 두 번 주문되지 않습니다.";
    order_failed "The order could not be placed.", "주문하지 못했습니다.";
}

impl Texts {
    /// The words of `language`.
    pub(crate) fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::Korean => &KOREAN,
        }
    }
}

/// `text` with its `{}` filled in.
pub(crate) fn fill(text: &str, value: impl Display) -> String {
    text.replacen("{}", &value.to_string(), 1)
}

#[cfg(test)]
mod tests {
    use super::{ALL, fill};

    fn is_hangul(character: char) -> bool {
        ('가'..='힣').contains(&character)
    }

    #[test]
    fn no_text_lacks_a_language() {
        assert!(ALL.len() > 80, "{}", ALL.len());
        for (key, english, korean) in ALL {
            assert!(!english.trim().is_empty() && !english.chars().any(is_hangul), "{key}: {english}");
            assert!(korean.chars().any(is_hangul), "{key}: {korean}");
        }
    }

    #[test]
    fn both_languages_say_what_is_filled_in() {
        for (key, english, korean) in ALL {
            let places = |text: &str| text.matches("{}").count();
            assert_eq!(places(english), places(korean), "{key}");
            assert!(places(english) <= 1, "{key}");
        }
        assert_eq!(fill("{} and {}", "{}"), "{} and {}");
    }

    /// What the templates say, and the code of the pages.
    const USES: &[&str] = &[
        include_str!("../../templates/base.html"),
        include_str!("../../templates/parts.html"),
        include_str!("../../templates/products.html"),
        include_str!("../../templates/product.html"),
        include_str!("../../templates/orders.html"),
        include_str!("../../templates/order.html"),
        include_str!("../../templates/likes.html"),
        include_str!("../../templates/rankings.html"),
        include_str!("../../templates/failure.html"),
        include_str!("../../templates/sign_in.html"),
        include_str!("done.rs"),
        include_str!("failure.rs"),
        include_str!("likes.rs"),
        include_str!("orders.rs"),
        include_str!("products.rs"),
        include_str!("rankings.rs"),
        include_str!("sign_in.rs"),
        include_str!("view.rs"),
    ];

    #[test]
    fn every_text_is_used() {
        for (key, ..) in ALL {
            let name = format!(".{key}");
            let is_used = |text: &&str| {
                text.match_indices(&name).any(|(at, _)| {
                    !text[at + name.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
                })
            };
            assert!(USES.iter().any(is_used), "{key} is said nowhere");
        }
    }

    #[test]
    fn templates_hold_no_words_of_their_own() {
        for template in USES.iter().filter(|text| !text.contains("\nuse ")) {
            assert!(!template.chars().any(is_hangul), "{template}");
        }
    }
}
