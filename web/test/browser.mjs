// Clicks through the dashboard in a real browser and says what it finds, a line
// a step. internal/dashboard's TestDashboardBrowser starts it:
//   node browser.mjs ADDRESS SCREENSHOT-FOLDER CHROMIUM fake|real
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [address, folder, executablePath, kind] = process.argv.slice(2)
const real = kind === 'real'
mkdirSync(folder, { recursive: true })
const profile = mkdtempSync(join(tmpdir(), 'tulle-browser-'))
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

const desktop = { width: 1440, height: 900 }

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: desktop,
  colorScheme: 'light',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const page = context.pages()[0] ?? (await context.newPage())
page.setDefaultTimeout(60_000)
// What the browser complains about comes when it likes: a step that provokes a
// complaint says so beforehand (expects), for good, and doesn't wipe it away
// afterwards, when it may not have come yet.
const complaints = []
const expected = []
const expects = (path, what) => expected.push({ url: address + path, what })
page.on('console', (m) => {
  const { url } = m.location()
  if (m.type() === 'error' && !expected.some((e) => url.startsWith(e.url) && e.what.test(m.text()))) complaints.push(`${m.text()} ${url}`)
})
page.on('pageerror', (e) => complaints.push(e.message))
page.on('request', (r) => new URL(r.url()).origin !== address && !r.url().startsWith('data:') && complaints.push(`asked elsewhere: ${r.url()}`))

let failed = 0
/** step says how a step went. It starts on a large screen, whatever became of the one before. */
async function step(name, act) {
  try {
    if (page.viewportSize().width !== desktop.width) await page.setViewportSize(desktop)
    await act()
    quiet()
    console.log(`ok ${name}`)
  } catch (error) {
    failed++
    console.log(`failed ${name}: ${String(error.message).split('\n').slice(0, 3).join(' | ')}`)
    await page.screenshot({ path: join(folder, `failed-${failed}.png`) }).catch(() => {})
    complaints.splice(0)
  }
}
const must = (condition, what) => {
  if (!condition) throw new Error(what)
}
const sees = async (text) => {
  await page.getByText(text).first().waitFor()
}
const shot = async (name) => {
  await page.waitForTimeout(350) // drawings settle
  await page.screenshot({ path: join(folder, `${name}.png`) })
}
const visit = (path) => page.goto(address + path)
const mesh = async (state) => {
  console.log(`mesh ${state}`)
  await answers.next()
}
/** nothing complains. */
const quiet = () => must(complaints.length === 0, `the browser complained: ${complaints.splice(0).join('; ')}`)
/** nothing sticks out sideways, and nothing complains. */
const sound = async () => {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  must(wide <= 0, `the page is ${wide} pixels wider than the window`)
  quiet()
}

const service = 'cart'
const proxy = real ? (process.env.TULLE_PROXY ?? 'web') : 'cart-1'

await step('topology draws services and edges', async () => {
  const response = await visit('/')
  must((response.headers()['content-security-policy'] ?? '').includes("default-src 'none'"), 'no Content-Security-Policy')
  await page.locator('.node').first().waitFor()
  const nodes = await page.locator('.node').count()
  const edges = await page.locator('.edge').count()
  must(nodes >= 5 && edges >= 4, `${nodes} nodes and ${edges} edges`)
  for (const name of ['web', 'cart', 'catalogue', 'payment']) await page.locator(`.node[data-id="service:${name}.default"]`).waitFor()
  await sound()
  await shot('topology')
})
await step('an edge is locked when it is mutual TLS', async () => {
  await page.locator('.edge:not(.plain) .lockmark').first().waitFor({ state: 'attached' })
})
await step('numbers on the nodes have units', async () => {
  const words = await page.locator(`.node[data-id="service:${service}.default"]`).textContent()
  must(/rps/.test(words) && /%/.test(words) && /ms|s/.test(words), words)
})
await step('a node opens its panel', async () => {
  await page.locator(`.node[data-id="service:${service}.default"]`).click()
  await page.locator('.panel h2', { hasText: service }).waitFor()
  await sees('Called by')
  await shot('topology-panel')
})
await step('the panel is in the address', async () => {
  must(page.url().includes('select=service'), page.url())
  await page.reload()
  await page.locator('.panel h2', { hasText: service }).waitFor()
})
await step('Escape closes the panel', async () => {
  await page.keyboard.press('Escape')
  await page.locator('.panel').waitFor({ state: 'detached' })
})
await step('an edge opens its panel', async () => {
  await page.locator(`.edge[data-id$=">service:${service}.default"] .pill`).first().click()
  await page.locator('.panel h2', { hasText: '→' }).waitFor()
  await page.locator('.note-box').first().waitFor()
  await shot('topology-edge')
  await page.locator('.panel .close').click()
})
await step('nodes are reached by keyboard', async () => {
  await page.locator(`.node[data-id="service:${service}.default"]`).focus()
  await page.keyboard.press('Enter')
  await page.locator('.panel h2', { hasText: service }).waitFor()
})
await step('the panel leads to the service', async () => {
  await page.getByText('Open the service').click()
  await page.locator('h1', { hasText: service }).waitFor()
  must(page.url().endsWith(`/services/default/${service}`), page.url())
})
await step('the service page draws its charts', async () => {
  await page.locator('.plot canvas').nth(2).waitFor()
  for (const title of ['Requests', 'Latency', 'Success rate', 'Called by', 'Calls', 'Endpoints']) await page.locator('h2', { hasText: title }).first().waitFor()
  await sees(/spiffe:\/\//)
  await sound()
  await shot('service')
  await page.screenshot({ path: join(folder, 'service-whole.png'), fullPage: true })
})
await step('the range changes the charts', async () => {
  const [request] = await Promise.all([page.waitForRequest((r) => r.url().includes('range=1h')), page.getByRole('button', { name: '1h' }).click()])
  must(request, 'no chart over an hour was asked')
})
await step('back leads back', async () => {
  await page.goBack()
  await page.locator('.node').first().waitFor()
})
await step('the services table', async () => {
  await page.getByRole('link', { name: /^Services/ }).click()
  await page.locator('tbody tr').first().waitFor()
  must((await page.locator('tbody tr').count()) >= 5, 'few rows')
  await page.locator('.spark path').first().waitFor({ state: 'attached' })
  await sound()
  await shot('services')
})
await step('a column sorts', async () => {
  await page.getByRole('button', { name: 'Rate' }).click()
  await page.locator('th[aria-sort="descending"]').waitFor()
  const figures = await page.locator('tbody tr td:nth-child(4)').allTextContents()
  const numbers = figures.map((f) => (f.includes('k') ? 1000 : 1) * Number.parseFloat(f)).filter((n) => !Number.isNaN(n))
  must(numbers.every((n, i) => i === 0 || numbers[i - 1] >= n), figures.join())
})
await step('the search filters, by the key /', async () => {
  await page.keyboard.press('/')
  await page.keyboard.type(service)
  await page.waitForFunction((name) => [...document.querySelectorAll('tbody tr')].every((r) => r.textContent.includes(name)), service)
  await page.keyboard.press('Escape')
})
await step('the proxies table', async () => {
  await page.getByRole('link', { name: /^Proxies/ }).click()
  await page.locator('h1', { hasText: 'Proxies' }).waitFor()
  must((await page.locator('tbody tr').count()) >= 5, 'few rows')
  await sound()
  await shot('proxies')
})
await step('a proxy says what it believes', async () => {
  await page.getByRole('link', { name: new RegExp(`^${proxy}\\.default`) }).first().click()
  await page.locator('h2', { hasText: 'Identity' }).waitFor()
  await sees(/spiffe:\/\//)
  await page.locator('details.raw').waitFor()
  await page.locator('.plot canvas').first().waitFor()
  await sound()
  await shot('proxy')
  await page.screenshot({ path: join(folder, 'proxy-whole.png'), fullPage: true })
})
await step('the mesh page shows every check', async () => {
  await page.getByRole('link', { name: /^Mesh/ }).click()
  await page.locator('h2', { hasText: 'Control plane' }).first().waitFor()
  await page.locator('.checks li').first().waitFor()
  await sound()
  await shot('mesh')
})
await step('a deep link works', async () => {
  await visit(`/services/default/${service}`)
  await page.locator('h1', { hasText: service }).waitFor()
})
await step('an unknown service is explained', async () => {
  // The page knows from the overview; that its own question is answered 404 is heard before or after.
  const asked = '/api/services/default/nonesuch'
  expects(asked, /status of 404/)
  const [answer] = await Promise.all([page.waitForResponse(address + asked), visit('/services/default/nonesuch')])
  must(answer.status() === 404, `${asked} is answered ${answer.status()}`)
  await sees('No service nonesuch in namespace default')
  await visit('/nowhere')
  await sees('There is no such page')
})
await step('the dark theme stays', async () => {
  await visit('/')
  await page.getByRole('button', { name: 'Use the dark theme' }).click()
  await page.reload()
  must((await page.evaluate(() => document.documentElement.dataset.theme)) === 'dark', 'not dark after a reload')
  await page.locator('.node').first().waitFor()
  await shot('topology-dark')
  await visit(`/services/default/${service}`)
  await page.locator('.plot canvas').nth(2).waitFor()
  await shot('service-dark')
})
await step('it is usable on a phone', async () => {
  await page.setViewportSize({ width: 390, height: 844 })
  await visit('/')
  await page.locator('.node').first().waitFor()
  await sound()
  await shot('phone-topology')
  for (const [name, path] of [['services', '/services'], ['service', `/services/default/${service}`], ['mesh', '/mesh']]) {
    await visit(path)
    await page.locator('h1').waitFor()
    await page.waitForTimeout(300)
    await sound()
    await shot(`phone-${name}`)
  }
})
if (!real) {
  await step('plaintext is a visible warning', async () => {
    await page.evaluate(() => localStorage.clear())
    await visit('/')
    await page.locator('.edge.plain').first().waitFor({ state: 'attached' })
    await sees(/in plaintext/)
  })
  await step('a rejected config is shown', async () => {
    await visit('/proxies/default/cart-2')
    await sees('The last update was rejected')
    await sees(/already in use/)
  })
  await step('a proxy that is gone is explained', async () => {
    await visit('/proxies/billing/invoices-1')
    await sees(/traffic goes on with the last good state/)
    await sees("The proxy can't be asked what it believes")
    await shot('proxy-gone')
  })
  await step('opaque TCP has its own charts', async () => {
    await visit('/services/default/store')
    await page.locator('h2', { hasText: 'Connections' }).waitFor()
    await shot('service-tcp')
  })
  await step('a route shows its backends', async () => {
    await visit('/services/default/recommendations')
    await page.locator('h2', { hasText: 'Routes' }).waitFor()
    await sees('recommendations-v2')
  })
  await step('updates come live', async () => {
    await visit('/services')
    await page.locator('tbody tr').first().waitFor()
    await mesh('empty')
    await sees('No services yet')
    await shot('empty-services')
    await visit('/')
    await sees('No services yet')
    await shot('empty-topology')
  })
  await step('silence is told, and its end', async () => {
    await mesh('full')
    await visit('/services')
    await page.locator('tbody tr').first().waitFor()
    expects('/api/', /net::ERR_/)
    await mesh('silent')
    await page.getByText(/has been silent for/).waitFor({ timeout: 60_000 })
    must((await page.locator('tbody tr').count()) >= 5, 'the last numbers are gone')
    await shot('silent')
    await mesh('full')
    await page.getByText(/has been silent for/).waitFor({ state: 'detached', timeout: 60_000 })
  })
  await step('a control plane in trouble is explained', async () => {
    expects('/api/', /status of 502/)
    await mesh('down')
    await sees(/the store does not answer/)
    await shot('down')
    await mesh('full')
  })
}

await context.close()
rmSync(profile, { recursive: true, force: true })
process.exit(failed > 0 ? 1 : 0)
