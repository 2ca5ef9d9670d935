// The pages work without this module. With it, counts and "sold out" change while one looks, and a like needs no reload.

const LIVE = '/api/v1/live'
// How often changed counts may be read aloud. What sells out is said at once.
const QUIET_MS = 30_000
// After which a page asks again for a stream that was refused, at the earliest.
const RETRY_MS = 5_000

const number = new Intl.NumberFormat(document.documentElement.lang)
const announcer = document.querySelector('[data-announce]')
let quietUntil = Date.now() + QUIET_MS

const shownOf = (id) => document.querySelectorAll(`[data-product="${id}"]`)

function announce(text) {
  announcer.textContent = text
}

function showCount(product, name, value) {
  const place = product.querySelector(`[data-count="${name}"]`)
  if (!place || value == null) return false
  const text = number.format(value)
  if (place.textContent === text) return false
  place.textContent = text
  place.classList.remove('changed')
  void place.offsetWidth
  place.classList.add('changed')
  return true
}

function showStock(product, soldOut) {
  if (typeof soldOut !== 'boolean' || product.hasAttribute('data-sold-out') === soldOut) return
  product.toggleAttribute('data-sold-out', soldOut)
  for (const fields of product.querySelectorAll('[data-order]')) fields.disabled = soldOut
  const text = soldOut ? announcer.dataset.gone : announcer.dataset.back
  announce(text.replace('{}', () => product.dataset.name))
}

function show(news) {
  for (const product of shownOf(news.productId)) {
    const changes = [
      showCount(product, 'likes', news.likeCount),
      showCount(product, 'sold', news.salesCount),
      showCount(product, 'views', news.viewCount),
    ]
    if (typeof news.stale === 'boolean') product.toggleAttribute('data-stale', news.stale)
    showStock(product, news.soldOut)
    if (product.classList.contains('detail') && changes.includes(true) && Date.now() > quietUntil) {
      quietUntil = Date.now() + QUIET_MS
      announce(product.querySelector('.counts').innerText)
    }
  }
}

// A page that nobody sees keeps no connection.
let source
function follow() {
  const ids = new Set(Array.from(document.querySelectorAll('[data-product]'), (shown) => shown.dataset.product))
  if (document.hidden || ids.size === 0) {
    source?.close()
    source = undefined
    return
  }
  if (source && source.readyState !== EventSource.CLOSED) return
  source = new EventSource(`${LIVE}?ids=${Array.from(ids).join(',')}`)
  source.addEventListener('product', (event) => show(JSON.parse(event.data)))
  // The browser comes back by itself after a broken stream, and not after one that was refused.
  source.addEventListener('error', () => {
    if (source?.readyState === EventSource.CLOSED) setTimeout(follow, RETRY_MS * (1 + Math.random()))
  })
}
document.addEventListener('visibilitychange', follow)
addEventListener('pagehide', () => source?.close())
addEventListener('pageshow', follow)

// What was pressed shows that it is being worked on, until there is another page; so it does not when one comes back to this one.
document.addEventListener('submit', ({ target }) => target.querySelector('button')?.setAttribute('aria-busy', 'true'))
addEventListener('pageshow', () => {
  for (const button of document.querySelectorAll('button[aria-busy]')) button.removeAttribute('aria-busy')
})

// A form with data-swap is sent in the background, and the element of that id is taken from the page that answers.
document.addEventListener('submit', async (event) => {
  const form = event.target
  const id = form.dataset.swap
  if (!id) return
  event.preventDefault()
  try {
    const answer = await fetch(form.action, { method: 'post', body: new URLSearchParams(new FormData(form)), headers: { accept: 'text/html' } })
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
    const fresh = page.getElementById(id)
    if (!answer.ok || !fresh) throw new Error(answer.status)
    form.replaceWith(fresh)
    fresh.querySelector('button').focus()
    announce(page.querySelector('.note.good')?.textContent ?? '')
  } catch {
    // The browser shows what is wrong.
    form.submit()
  }
})
