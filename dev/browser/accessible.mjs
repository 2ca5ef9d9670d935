// axe-core on every page, in both languages, light and dark, on a phone and on a desk: no serious finding; everything by keyboard.

import { createRequire } from "node:module";

import { ensure } from "./shop.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core");

const WAYS = [
  { locale: "en-US", colorScheme: "light", viewport: { width: 1280, height: 900 } },
  { locale: "ko-KR", colorScheme: "dark", viewport: { width: 390, height: 844 } },
  { locale: "ko-KR", colorScheme: "light", viewport: { width: 390, height: 844 } },
  { locale: "en-US", colorScheme: "dark", viewport: { width: 1280, height: 900 } },
];

/** Findings that keep somebody from using the shop. */
const SERIOUS = ["serious", "critical"];

export async function accessible(shop) {
  const { products } = shop.settings;
  for (const way of WAYS) {
    // The script of axe is put into the page from outside, which the shop's policy forbids to everybody else.
    const page = await shop.buyer(0, { ...way, bypassCSP: true });
    await page.goto(`/products/${products.plenty}`);
    await page.locator(".detail form.order button").click();
    await page.waitForURL(/\/orders\/\d+/);
    const order = new URL(page.url()).pathname;
    const paths = ["/", "/?q=nothing-has-this-name", "/rankings", "/likes", "/orders", order];
    paths.push(`/products/${products.plenty}`, `/products/${products.gone}`);
    for (const path of paths) {
      await page.goto(path);
      await inspect(page, path, way);
    }
    await shop.refused(page, "/no-such-page", 404);
    await inspect(page, "/no-such-page", way);
    const visitor = await shop.visitor({ ...way, bypassCSP: true });
    for (const path of ["/sign-in", `/products/${products.plenty}`]) {
      await visitor.goto(path);
      await inspect(visitor, path, way);
    }
    await page.context().close();
    await visitor.context().close();
  }
  await keyboard(shop);
}

async function inspect(page, path, way) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  ensure(wide <= 0, `${path} is ${wide} pixels wider than the screen (${JSON.stringify(way)})`);
  await page.addScriptTag({ path: axe });
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter((violation) => SERIOUS.includes(violation.impact));
  const told = serious.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" | ")}`);
  ensure(told.length === 0, `${path} (${JSON.stringify(way)}):\n${told.join("\n")}`);
}

/** From the address bar to a placed order without a mouse. */
async function keyboard(shop) {
  const page = await shop.buyer(0);
  await page.goto(`/products/${shop.settings.products.plenty}`);
  await page.keyboard.press("Tab");
  ensure(await page.evaluate(() => document.activeElement.matches('a[href="#content"]')), "the first stop skips to the content");
  await page.keyboard.press("Enter");
  for (let stop = 0; !(await page.evaluate(() => document.activeElement.matches(".detail form.order button"))); stop += 1) {
    ensure(stop < 20, "the order button is reached from the content by the keyboard");
    await page.keyboard.press("Tab");
  }
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  ensure(outline !== "none", "what has the focus shows it");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/orders\/\d+/);
}
