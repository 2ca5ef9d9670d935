// Pictures for the README.

import path from "node:path";

export async function pictures(shop) {
  const { pictures: folder, products } = shop.settings;
  await busy(shop);
  const desk = { viewport: { width: 1280, height: 860 }, colorScheme: "light" };
  const phone = { viewport: { width: 390, height: 844 }, colorScheme: "dark", locale: "ko-KR", deviceScaleFactor: 2 };
  for (const [name, where, way] of [
    ["storefront-list", "/?sort=likes_desc", desk],
    ["storefront-product", `/products/${products.liked}`, phone],
  ]) {
    const page = await shop.buyer(0, way);
    await page.goto(where);
    await page.waitForLoadState("load");
    await page.screenshot({ path: path.join(folder, `${name}.png`) });
  }
}

/** Buyers look at products, like some and buy some of them out. */
async function busy(shop) {
  const [first, second] = [await shop.buyer(0), await shop.buyer(1)];
  await first.goto("/");
  const paths = await first.locator("main article h2 a").evaluateAll((links) => links.slice(0, 8).map((link) => link.getAttribute("href")));
  for (const [place, path] of [...paths.entries(), [0, `/products/${shop.settings.products.liked}`]]) {
    for (const page of place % 2 === 0 ? [first, second] : [first]) {
      await page.goto(path);
      const like = page.locator('.detail form.like button[aria-pressed="false"]');
      if (await like.count()) await like.click();
      await page.locator('.detail form.like button[aria-pressed="true"]').waitFor();
    }
    await first.goto(path);
    if (place % 3 === 2) await first.getByLabel("Quantity").fill("5");
    if (place % 3 !== 1) await first.locator(".detail form.order button").click();
    await first.waitForLoadState("load");
  }
  await shop.reached(async () => {
    await first.goto("/?sort=likes_desc");
    return (await first.locator('main article [data-count="likes"]').first().textContent()) === "2";
  });
}
