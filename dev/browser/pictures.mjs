// Pictures for the README; made only when a folder for them is named.

import path from "node:path";

export async function pictures(shop) {
  const { pictures: folder, products } = shop.settings;
  if (!folder) return;
  const desk = { viewport: { width: 1280, height: 860 }, colorScheme: "light" };
  const phone = { viewport: { width: 390, height: 844 }, colorScheme: "dark", locale: "ko-KR", deviceScaleFactor: 2 };
  for (const [name, where, way] of [
    ["storefront-list", "/", desk],
    ["storefront-phone", `/products/${products.gone}`, phone],
  ]) {
    const page = await shop.buyer(0, way);
    await page.goto(where);
    await page.waitForLoadState("load");
    await page.screenshot({ path: path.join(folder, `${name}.png`) });
  }
}
