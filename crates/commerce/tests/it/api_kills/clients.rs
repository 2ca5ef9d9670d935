//! Clients that ask over HTTP until they were told.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ledger::{Ledger, Lines, Ordered, Recorded, Verdict};
use crate::harness::Shop;

/// No product.
const UNKNOWN: i64 = 999_999_999;
/// Visitors of one client, and more than there are clients.
const VISITORS: i64 = 1_000_000_000;

/// One process of the api, from when it is ready until it is killed.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) number: u64,
    /// Connections to it.
    pub(super) http: reqwest::Client,
    /// The newest order of those before it.
    pub(super) last_order: i64,
}

/// What can be bought.
pub(super) struct Catalogue {
    pub(super) plenty: Vec<i64>,
    pub(super) scarce: Vec<i64>,
}

impl Catalogue {
    /// One to three products; some orders have one that is sold out some time, some one that is not there.
    fn lines(&self, user: i64, number: usize) -> Lines {
        let start = number * 7 + usize::try_from(user).unwrap_or_default() * 13;
        let plenty =
            |line: usize| (self.plenty[(start + line * 11) % self.plenty.len()], 1 + i64::from(line == 1));
        let mut lines: Lines = (0..=number % 3).map(plenty).collect();
        if number.is_multiple_of(8) {
            lines.insert(self.scarce[start % self.scarce.len()], 1);
        }
        if number % 20 == 1 {
            lines.insert(UNKNOWN, 1);
        }
        lines
    }
}

/// A complete answer.
struct Answer {
    status: u16,
    view_recorded: Option<String>,
    body: Value,
}

/// A buyer with a ledger.
pub(super) struct Client<'a> {
    shop: &'a Shop,
    user: i64,
    catalogue: &'a Catalogue,
    lives: watch::Receiver<Option<Life>>,
    /// Commands of all clients that were acknowledged.
    progress: &'a watch::Sender<u64>,
    ledger: Ledger,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        shop: &'a Shop,
        user: i64,
        catalogue: &'a Catalogue,
        lives: watch::Receiver<Option<Life>>,
        progress: &'a watch::Sender<u64>,
    ) -> Self {
        Self { shop, user, catalogue, lives, progress, ledger: Ledger::default() }
    }

    /// Asks until so many commands are acknowledged: five orders, three likes and two pages in turn.
    pub(super) async fn ask(mut self, commands: u64) -> Result<Ledger> {
        for number in 0.. {
            if self.ledger.acknowledged >= commands {
                break;
            }
            let is_acknowledged = match number % 10 {
                0..5 => self.order(number).await?,
                5..8 => self.like(number).await?,
                _ => self.view(number).await?,
            };
            if is_acknowledged {
                self.ledger.acknowledged += 1;
                self.progress.send_modify(|done| *done += 1);
            }
        }
        Ok(self.ledger)
    }

    async fn order(&mut self, number: usize) -> Result<bool> {
        let lines = self.catalogue.lines(self.user, number);
        let key = format!("{}-{number}", self.user);
        let verdict = self.place(&key, &lines).await?;
        if number.is_multiple_of(9) && verdict != Verdict::Refused {
            let again = self.place(&key, &lines).await?;
            ensure!(again == verdict, "order {key} was {verdict:?}, and is {again:?} when it is repeated");
        }
        self.ledger.orders.insert((self.user, key), Ordered { lines, verdict });
        Ok(true)
    }

    async fn place(&mut self, key: &str, lines: &Lines) -> Result<Verdict> {
        let items: Vec<Value> =
            lines.iter().map(|(product, units)| json!({ "productId": product, "quantity": units })).collect();
        let body = json!({ "items": items });
        let ask = |request: RequestBuilder| request.header("Idempotency-Key", key).json(&body);
        let (answer, was_cut_off) = self.definite(Method::POST, "/api/v1/orders", ask).await?;
        match (answer.status, answer.body["meta"]["errorCode"].as_str()) {
            (201, _) => {
                let order = &answer.body["data"];
                let bought: Option<Lines> = order["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|item| Some((item["productId"].as_i64()?, item["quantity"].as_i64()?)))
                    .collect();
                ensure!(bought.as_ref() == Some(lines), "{lines:?} were asked for: {order}");
                let id = order["orderId"].as_i64().context("no order id")?;
                let is_of_before = |life: &Life| id <= life.last_order;
                if was_cut_off && self.lives.borrow().as_ref().is_some_and(is_of_before) {
                    self.ledger.found_done += 1;
                }
                Ok(Verdict::Placed(id))
            }
            (409, Some("SOLD_OUT")) | (404, Some("PRODUCT_NOT_FOUND")) => Ok(Verdict::Refused),
            (status, _) => bail!("order {key}: {status} {}", answer.body),
        }
    }

    /// Gives a like, gives it again, takes it back, in turn; of each product the last is kept for a while.
    async fn like(&mut self, number: usize) -> Result<bool> {
        let index = number / 30 % 5 + usize::try_from(self.user)? * 5;
        let product = self.catalogue.plenty[index % self.catalogue.plenty.len()];
        let is_liked = number % 10 < 7 || number % 30 == 27;
        let method = if is_liked { Method::POST } else { Method::DELETE };
        if number % 20 == 6 {
            let path = format!("/api/v1/like/products/{UNKNOWN}");
            let (answer, _) = self.definite(method, &path, |request| request).await?;
            ensure!(answer.status == 404, "{path}: {} {}", answer.status, answer.body);
            return Ok(true);
        }
        let path = format!("/api/v1/like/products/{product}");
        let (answer, was_cut_off) = self.definite(method, &path, |request| request).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        let liked = self.ledger.likes.entry((self.user, product)).or_default();
        let changes = liked.is_liked != is_liked;
        // If the first of several requests did it, only its lost answer said so.
        let said = answer.body["data"]["changed"] == true;
        ensure!(said == changes || was_cut_off && !said, "{path}: {} when {liked:?}", answer.body);
        self.ledger.found_done += u64::from(changes && !said);
        if changes {
            let count = if is_liked { &mut liked.given } else { &mut liked.taken };
            *count += 1;
            liked.is_liked = is_liked;
        }
        Ok(true)
    }

    /// Looks at a page as a visitor who comes once; what nobody knows is not acknowledged.
    async fn view(&mut self, number: usize) -> Result<bool> {
        let product = self.catalogue.plenty[number % self.catalogue.plenty.len()];
        let visitor = self.user * VISITORS + i64::try_from(number)?;
        let path = format!("/api/v1/products/{product}");
        let as_visitor = self.send(Method::GET, &path, visitor, &|request| request).await?;
        let recorded = match as_visitor {
            None => Recorded::Unknown,
            Some(answer) => match (answer.status, answer.view_recorded.as_deref()) {
                (200, Some("true")) => Recorded::Yes,
                (200, Some("false")) => Recorded::No,
                (200, Some("unknown")) => Recorded::Unknown,
                (status, said) => bail!("{path}: {status}, recorded: {said:?}"),
            },
        };
        self.ledger.views.insert(visitor, (product, recorded));
        Ok(recorded != Recorded::Unknown)
    }

    /// Asks again until it is answered; says whether an answer was lost before.
    async fn definite(
        &mut self,
        method: Method,
        path: &str,
        ask: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<(Answer, bool)> {
        let mut was_cut_off = false;
        loop {
            if let Some(answer) = self.send(method.clone(), path, self.user, &ask).await? {
                return Ok((answer, was_cut_off));
            }
            was_cut_off = true;
        }
    }

    /// Asks the next process that lives; `None` when it was killed before it had answered.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        user: i64,
        ask: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Option<Answer>> {
        let life = self.lives.wait_for(Option::is_some).await?.clone().context("no process")?;
        let request = life.http.request(method, self.shop.url(path)).header("X-USER-ID", user.to_string());
        match complete(ask(request)).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                let lives_on = self.lives.borrow().as_ref().is_some_and(|now| now.number == life.number);
                ensure!(!lives_on, "{path}: {error:#}");
                self.ledger.interrupted += 1;
                Ok(None)
            }
        }
    }
}

async fn complete(request: RequestBuilder) -> Result<Answer> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let view_recorded = answer.headers().get("View-Recorded").map(|value| value.to_str().map(str::to_owned));
    Ok(Answer { status, view_recorded: view_recorded.transpose()?, body: answer.json().await? })
}
