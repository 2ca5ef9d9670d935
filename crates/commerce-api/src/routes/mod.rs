//! The buyers' and the merchant's HTTP: requests in, envelopes out. Rules stand in `domain`, effects in `commands`.

mod admin;
mod caller;
mod document;
pub(crate) mod envelope;
pub(crate) mod extract;
mod guard;
pub(crate) mod likes;
mod live;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod rankings;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::guard::GuardLayer;
use crate::App;
use crate::error::ApiError;
use crate::pages;

/// Every route, those of the api among them, behind one guard. A layer costs each request a box: routes have those that they need.
pub(crate) fn router(api: Router<Arc<App>>, app: Arc<App>) -> Router {
    api.merge(document::pages())
        .merge(pages::router(app.settings.body_bytes_max))
        .method_not_allowed_fallback(async || ApiError::NoMethod)
        .fallback(async || ApiError::NoRoute)
        .layer(GuardLayer(Arc::clone(&app)))
        .with_state(app)
}

/// The routes of the api with the document that describes them. Every route of the api is registered here.
pub(crate) fn described(body_bytes_max: usize, bulk_body_bytes_max: usize) -> (Router<Arc<App>>, String) {
    let bulk = OpenApiRouter::new()
        .routes(routes!(admin::create_products))
        .layer(DefaultBodyLimit::max(bulk_body_bytes_max));
    // These read no body.
    let bodiless = OpenApiRouter::new()
        .routes(routes!(products::list))
        .routes(routes!(products::show))
        .routes(routes!(rankings::list))
        .routes(routes!(live::watch))
        .routes(routes!(likes::list))
        .routes(routes!(likes::like, likes::unlike))
        .routes(routes!(orders::show))
        .routes(routes!(orders::cancel))
        .routes(routes!(document::describe));
    let (router, document) = OpenApiRouter::with_openapi(document::preamble())
        .routes(routes!(orders::place, orders::list))
        .routes(routes!(admin::create_product))
        .routes(routes!(admin::change_product))
        .routes(routes!(admin::set_stock))
        .routes(routes!(admin::adjust_stock))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .merge(bulk)
        .merge(bodiless)
        .split_for_parts();
    (router, document::complete(document))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::described;

    /// Kept in the repository, so that whoever changes the api sees the change.
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    #[test]
    fn the_document_is_the_one_in_the_repository() {
        let (_, document) = described(1, 1);
        if std::env::var_os("OPENAPI_WRITE").is_some() {
            std::fs::write(GOLDEN, &document).unwrap();
        }
        let golden = std::fs::read_to_string(GOLDEN).unwrap();
        assert!(
            document == golden,
            "openapi.json is not what the routes say; `OPENAPI_WRITE=1 cargo test -p commerce-api document` writes it"
        );
    }

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(&described(1, 1).1).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(target.is_some(), "{reference}");
        }
    }

    #[test]
    fn every_route_of_the_router_is_in_the_document_and_no_other() {
        let (router, document) = described(1, 1);
        // The router does not list its paths but for debugging, in quotes; two are those of its own fallback.
        let routed = format!("{router:?}");
        let routed: BTreeSet<&str> = routed
            .split('"')
            .filter(|piece| piece.starts_with('/') && !["/", "/{*__private__axum_fallback}"].contains(piece))
            .collect();
        let document: Value = serde_json::from_str(&document).unwrap();
        let described: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(routed, described);
        assert!(described.contains("/api/v1/products/{id}"), "{described:?}");
    }
}
