// The first page: how much it weighs, in how many requests, and whether anything moves while it loads.

import { ensure } from "./shop.mjs";

/** Bytes over the wire with everything, headers included. */
const BYTES_MAX = 60_000;
const REQUESTS_MAX = 10;

export async function light(shop) {
  const page = await shop.visitor();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  let bytes = 0;
  let requests = 0;
  devtools.on("Network.requestWillBeSent", () => (requests += 1));
  devtools.on("Network.dataReceived", (event) => (bytes += event.encodedDataLength));
  devtools.on("Network.responseReceived", (event) => (bytes += event.response.encodedDataLength));
  await page.addInitScript(() => {
    globalThis.shift = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) globalThis.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const following = page.waitForResponse((response) => response.url().includes("/api/v1/live"));
  await page.goto("/");
  await following;
  ensure((await page.locator("[data-product]").count()) >= 20, "the first page is full");
  // Two frames later everything that moves has moved.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const shift = await page.evaluate(() => globalThis.shift);
  console.log(`first page: ${bytes} bytes, ${requests} requests, layout shift ${shift}`);
  ensure(bytes > 0 && bytes <= BYTES_MAX, `${bytes} bytes, ${BYTES_MAX} are allowed`);
  ensure(requests <= REQUESTS_MAX, `${requests} requests, ${REQUESTS_MAX} are allowed`);
  ensure(shift === 0, `the layout shifts by ${shift}`);
}
