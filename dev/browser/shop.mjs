// A browser in front of the shop, whose pages report whatever a buyer should never meet.

import { chromium } from "playwright-core";

/** Options without which Chromium asks the network for things of its own. */
const QUIET = [
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--disable-gpu",
];
/** How often a state is looked at that the page does not show by itself. */
const LOOK_MS = 200;
/** After which what was waited for has not come: far beyond what a loaded machine takes. */
const PATIENCE_MS = 60_000;

export class Shop {
  /** Errors and warnings on consoles, requests to other hosts, scripts that failed. */
  complaints = [];
  #browser;
  #pages = [];

  constructor(settings, browser) {
    this.settings = settings;
    this.#browser = browser;
  }

  static async open(settings) {
    // Chromium's own sandbox does not start for root.
    const args = process.getuid?.() === 0 ? [...QUIET, "--no-sandbox"] : QUIET;
    const browser = await chromium.launch({ executablePath: settings.browser, args });
    return new Shop(settings, browser);
  }

  /** A browser of its own; nobody is signed in. */
  async visitor(options = {}) {
    const context = await this.#browser.newContext({ baseURL: this.settings.url, locale: "en-US", ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    context.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${this.settings.url}/`) && !url.startsWith("data:")) this.complaints.push(`a request to ${url}`);
    });
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(`${page.url()}: console: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.complaints.push(`${page.url()}: ${error}`));
    this.#pages.push(page);
    return page;
  }

  /** The same, signed in as a buyer, on a page without anything. */
  async buyer(number, options = {}) {
    const page = await this.visitor(options);
    await page.goto("/sign-in");
    await page.locator('main form input[name="token"]').fill(this.settings.tokens[number]);
    await page.locator("main form button").click();
    await page.waitForURL((url) => url.pathname !== "/sign-in");
    // The page after signing in follows its products too: an answer to it is not to be taken for one to the page that is opened next.
    await page.goto("about:blank");
    return page;
  }

  /** Waits for an element; answers how many milliseconds it took. */
  async appears(locator) {
    const begun = performance.now();
    await locator.first().waitFor({ state: "attached" });
    return performance.now() - begun;
  }

  /** Waits until `holds`, for what only another look tells. */
  async reached(holds) {
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await holds())) {
      ensure(performance.now() < deadline, `not reached: ${holds}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Opens a page that is refused with `status`; the browser itself tells the console so, which is as it should be. */
  async refused(page, path, status) {
    const answer = await page.goto(path);
    ensure(answer.status() === status, `${path} is answered with ${answer.status()}, not ${status}`);
    await page.waitForLoadState("load");
    this.expects(`status of ${status}`);
  }

  /** Forgets what the console was told of an answer that a scenario has brought about. */
  expects(text) {
    this.complaints = this.complaints.filter((complaint) => !complaint.includes(text));
  }

  /** Tells how long something took. */
  tell(what, milliseconds) {
    console.log(`${what} after ${Math.round(milliseconds)} ms`);
  }

  /** Tells what each page showed, for whoever looks for the cause of a failure. */
  async show() {
    for (const page of this.#pages) {
      const shown = await page.locator("body").innerText({ timeout: 1_000 }).catch((error) => `(nothing: ${error})`);
      console.error(`--- ${page.url()}\n${shown}`);
    }
    for (const complaint of this.complaints) console.error(complaint);
  }

  async close() {
    await this.#browser.close();
  }
}

/** Opens a page and waits until it follows its products live. */
export async function live(page, open) {
  const following = page.waitForResponse((response) => response.url().includes("/api/v1/live"));
  await open();
  ensure((await following).ok(), "the page follows its products live");
}

/** Fails with `what` unless `holds`. */
export function ensure(holds, what) {
  if (!holds) throw new Error(what);
}
