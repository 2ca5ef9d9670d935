//! The document for machines: `/openapi.json`, put together from the very routes that are served, and its pages at
//! `/docs`.
//!
//! A route that is not registered through `routes!` is in no document, so nothing else registers routes of the api. The
//! pages are compiled in, and a content security policy keeps them from asking anybody else for anything.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response as OpenApiResponse, ResponseBuilder};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, OpenApi, RefOr};
use utoipa::{Modify, OpenApi as _, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::envelope::Failure;
use crate::App;
use crate::domain::token::Scope;

/// Where the document is.
const DOCUMENT_PATH: &str = "/openapi.json";
/// Where its pages are.
const PAGES_PATH: &str = "/docs";
/// Who the buyer is, by the gateway's word.
const BUYER: &str = "buyer";
/// What he is beside, by the gateway's word.
const ROLE: &str = "role";
/// Both, by a token.
const TOKEN: &str = "token";
/// Nothing from anywhere else; the pages set styles on their elements and draw icons from `data:`.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Commerce",
        description = "A shop: products, likes, orders, rankings. What clients can rely on, also at the same time, stands in \
                       docs/http-api.md. Messages speak Korean or English by `Accept-Language`.",
        license(name = "Apache-2.0 OR MIT")
    ),
    tags(
        (name = "products", description = "What buyers see"),
        (name = "likes", description = "The buyer's own likes"),
        (name = "orders", description = "The buyer's own orders"),
        (name = "merchant", description = "For the role `admin`"),
        (name = "document", description = "This document")
    ),
    components(schemas(Failure)),
    modifiers(&Callers)
)]
struct Document;

/// How callers are told apart.
struct Callers;

impl Modify for Callers {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("`ct_…`, with `auth.mode = \"token\"`; the other two are ignored then. The scope of each route stands with it."))
            .build();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(token));
        for (scheme, header, text) in [
            (
                BUYER,
                "X-USER-ID",
                "The buyer's id, from a gateway that is trusted (`auth.gateway_networks`), with `auth.mode = \"gateway\"`.",
            ),
            (ROLE, "X-USER-ROLE", "`admin` may change products; from the same gateway."),
        ] {
            let key = ApiKey::Header(ApiKeyValue::with_description(header, text));
            components.add_security_scheme(scheme, SecurityScheme::ApiKey(key));
        }
    }
}

/// What is in the document whatever the routes are.
pub(super) fn preamble() -> OpenApi {
    Document::openapi()
}

/// The whole document as it is served, given what the routes say of themselves.
pub(super) fn complete(mut document: OpenApi) -> String {
    let items = document.paths.paths.values_mut();
    let operations = items.flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
            .into_iter()
            .flatten()
    });
    for operation in operations {
        add_failure(operation);
        add_token(operation);
    }
    let mut text = document.to_pretty_json().expect("a document is plain data");
    text.push('\n');
    text
}

/// Every route can fail in ways that are not its own: load, outages, bugs.
fn add_failure(operation: &mut Operation) {
    let failure: OpenApiResponse = ResponseBuilder::new()
        .description("Any other failure; its code tells which.")
        .content("application/json", Content::new(Some(Failure::schema_reference())))
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(failure));
}

/// A route says whom it serves in the words of the gateway; here the token is added that does the same.
fn add_token(operation: &mut Operation) {
    let none = || [""; 0];
    let buyer = SecurityRequirement::new(BUYER, none());
    let merchant = buyer.clone().add(ROLE, none());
    let Some(security) = &mut operation.security else { return };
    for (gateways, scope) in [(buyer, Scope::Buyer), (merchant, Scope::Admin)] {
        if security.contains(&gateways) {
            security.push(SecurityRequirement::new(TOKEN, [scope.as_str()]));
        }
    }
}

impl Failure {
    fn schema_reference() -> utoipa::openapi::Ref {
        utoipa::openapi::Ref::from_schema_name(Self::name())
    }
}

/// This document.
#[utoipa::path(
    get,
    path = DOCUMENT_PATH,
    operation_id = "describe",
    tag = "document",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"))
)]
pub(super) async fn describe(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], app.document.clone()).into_response()
}

/// The pages that show the document.
pub(super) fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    // Without "none" the pages would ask a public service whether the document is valid.
    let config = Config::new([DOCUMENT_PATH]).validator_url("none");
    let pages: Router<S> = SwaggerUi::new(PAGES_PATH).config(config).into();
    pages.layer(axum::middleware::map_response(async |mut response: Response| {
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        response
    }))
}
