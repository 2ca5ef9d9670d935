// What buyers must see in a real browser: `node storefront.mjs SCENARIO`, settings as JSON on standard input, told about on standard output.
//
// {"url", "browser", "tokens": [a token for each buyer], "products": {name: id}, "pictures": folder}
// The tests of crates/commerce (tests/it/storefront.rs) start the shop, run each scenario and check the database afterwards.

import { text } from "node:stream/consumers";

import { accessible } from "./accessible.mjs";
import { light } from "./light.mjs";
import { pictures } from "./pictures.mjs";
import { Shop, ensure, live } from "./shop.mjs";

/** A like in one browser shows in the other, and so does taking it back. */
async function likes(shop) {
  const path = `/products/${shop.settings.products.liked}`;
  const [liker, watcher] = [await shop.buyer(0), await shop.buyer(1)];
  await live(watcher, () => watcher.goto(path));
  await liker.goto(path);
  const shown = (count) => shop.appears(watcher.locator('.detail [data-count="likes"]', { hasText: new RegExp(`^${count}$`) }));
  await shown(0);
  const button = liker.locator(".detail form.like button");
  for (const [pressed, count] of [["true", 1], ["false", 0]]) {
    await button.click();
    await liker.locator(`.detail form.like button[aria-pressed="${pressed}"]`).waitFor();
    shop.tell(`a like (${count}) shows elsewhere`, await shown(count));
  }
  await button.click();
  await shown(1);
  await liker.reload();
  await liker.locator('.detail form.like button[aria-pressed="true"]').waitFor();
  await liker.goto("/likes");
  ensure((await liker.locator("[data-product]").count()) === 1, "the liked product is among the buyer's likes");
}

/** The last item bought in one browser: "sold out" and a disabled button in the other, without a reload; back when the order is cancelled. */
async function last_item(shop) {
  const path = `/products/${shop.settings.products.last}`;
  const [buyer, watcher] = [await shop.buyer(0), await shop.buyer(1)];
  await live(watcher, () => watcher.goto(path));
  const button = watcher.locator(".detail form.order button");
  const soldOut = watcher.locator(".detail[data-sold-out]");
  ensure(await button.isEnabled(), "the last item can be ordered");
  ensure((await soldOut.count()) === 0, "the last item is not sold out");
  await watcher.evaluate(() => (globalThis.notReloaded = true));

  await buyer.goto(path);
  // Behind the page's own listener, which has marked the button by then.
  await buyer.evaluate(() => addEventListener("submit", ({ target }) => (sessionStorage.busy = target.querySelector("button").ariaBusy)));
  await buyer.locator(".detail form.order button").click();
  await buyer.waitForURL(/\/orders\/\d+/);
  ensure((await buyer.evaluate(() => sessionStorage.busy)) === "true", "the button showed that the order was on its way");
  shop.tell("sold out shows elsewhere", await shop.appears(soldOut));
  ensure(await button.isDisabled(), "the button of what is sold out is disabled");
  await shop.appears(watcher.locator('.detail [data-count="sold"]', { hasText: /^1$/ }));
  const said = await watcher.locator('[role="status"][data-announce]').textContent();
  ensure(/sold out/i.test(said), `a screen reader is told: ${said}`);

  await buyer.locator('form[action$="/cancel"] button').click();
  await buyer.locator("dd.state.off").waitFor();
  shop.tell("back in stock shows elsewhere", await shop.appears(watcher.locator(".detail:not([data-sold-out])")));
  ensure(await button.isEnabled(), "what is back can be ordered");
  ensure(await watcher.evaluate(() => globalThis.notReloaded), "the watcher's page was not loaded again");
}

/** The same stories without a script: forms and reloads. */
async function without_script(shop) {
  const options = { javaScriptEnabled: false, locale: "ko-KR" };
  const path = `/products/${shop.settings.products.plain}`;
  const [buyer, watcher] = [await shop.buyer(0, options), await shop.buyer(1, options)];
  await buyer.goto(path);
  await buyer.locator(".detail form.like button").click();
  await buyer.locator('.detail form.like button[aria-pressed="true"]').waitFor();
  await buyer.locator(".detail form.order button").click();
  await buyer.waitForURL(/\/orders\/\d+/);
  ensure((await buyer.locator("html").getAttribute("lang")) === "ko", "a Korean browser reads Korean");
  await shop.reached(async () => {
    await watcher.goto(path);
    const [likes, sold] = [watcher.locator('.detail [data-count="likes"]'), watcher.locator('.detail [data-count="sold"]')];
    return (await likes.textContent()) === "1" && (await sold.textContent()) === "1" && (await watcher.locator(".detail[data-sold-out]").count()) === 1;
  });
  ensure(await watcher.locator(".detail form.order button").isDisabled(), "the button of what is sold out is disabled");
  await buyer.locator('form[action$="/cancel"] button').click();
  await buyer.locator("dd.state.off").waitFor();
  await buyer.goto("/orders");
  ensure((await buyer.locator("main article").count()) === 1, "the order is among the buyer's orders");
}

/** A stream that was refused, as by an api that is full, is asked for again, and counts go on. */
async function refused_stream(shop) {
  const path = `/products/${shop.settings.products.plenty}`;
  const [liker, watcher] = [await shop.buyer(0), await shop.buyer(1)];
  let asked = 0;
  await watcher.route("**/api/v1/live?*", (route) => (asked++ === 0 ? route.fulfill({ status: 503 }) : route.continue()));
  const follows = watcher.waitForResponse((response) => response.url().includes("/api/v1/live") && response.ok());
  await watcher.goto(path);
  await follows;
  ensure(asked === 2, `refused once, asked for ${asked} times`);
  shop.expects("status of 503");
  await liker.goto(path);
  await liker.locator(".detail form.like button").click();
  shop.tell("a like shows after the stream was refused", await shop.appears(watcher.locator('.detail [data-count="likes"]', { hasText: /^1$/ })));
}

/** An order that is sent twice is placed once; signing out ends the session. */
async function twice(shop) {
  const buyer = await shop.buyer(0);
  await buyer.goto(`/products/${shop.settings.products.twice}`);
  const key = await buyer.locator('.detail form.order input[name="key"]').inputValue();
  await buyer.locator(".detail form.order button").click();
  await buyer.waitForURL(/\/orders\/\d+/);
  const first = buyer.url();
  // The browser's way back and the button once more: the same form with the same key.
  await buyer.goBack();
  await buyer.locator('.detail form.order input[name="key"]').evaluate((field, key) => (field.value = key), key);
  await buyer.locator(".detail form.order button").click();
  await buyer.waitForURL(/\/orders\/\d+/);
  const [again, once] = [new URL(buyer.url()).pathname, new URL(first).pathname];
  ensure(again === once, `one order, not ${once} and ${again}`);
  await buyer.locator('form[action="/sign-out"] button').click();
  await buyer.waitForURL((url) => !/orders/.test(url.pathname));
  await shop.refused(buyer, "/orders", 401);
  ensure((await buyer.locator('main a[href^="/sign-in"]').count()) === 1, "who signed out is asked to sign in");
}

const scenarios = { likes, last_item, refused_stream, without_script, twice, accessible, light, pictures };

const run = scenarios[process.argv[2]];
ensure(run, `scenarios: ${Object.keys(scenarios).join(", ")}`);
const shop = await Shop.open(JSON.parse(await text(process.stdin)));
try {
  await run(shop);
  ensure(shop.complaints.length === 0, shop.complaints.join("\n"));
} catch (error) {
  await shop.show();
  throw error;
} finally {
  await shop.close();
}
