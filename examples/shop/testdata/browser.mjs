// A customer with a real browser: node browser.mjs ADDRESS CHROMIUM PLAYWRIGHT
// Prints "ok STEP" or "failed STEP: WHY".
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [address, executablePath, playwright] = process.argv.slice(2)
const { chromium } = (await import(pathToFileURL(join(playwright, 'index.js')))).default
const profile = mkdtempSync(join(tmpdir(), 'shop-browser-'))
const context = await chromium.launchPersistentContext(profile, {
  executablePath, headless: true, viewport: { width: 1200, height: 900 },
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const page = context.pages()[0] ?? (await context.newPage())
page.setDefaultTimeout(60_000)
const complaints = []
page.on('console', (m) => m.type() === 'error' && complaints.push(m.text()))
page.on('pageerror', (e) => complaints.push(e.message))
let failed = 0
async function step(name, act) {
  try {
    await act()
    console.log(`ok ${name}`)
  } catch (error) {
    failed++
    console.log(`failed ${name}: ${String(error.message).split('\n').slice(0, 3).join(' | ')}`)
  }
}
const must = (condition, what) => { if (!condition) throw new Error(what) }
const count = (n) => page.waitForFunction((n) => document.getElementById('count').textContent === n, n)

await step('the first page shows the goods', async () => {
  await page.goto(address + '/')
  must(await page.locator('.card').count() === 12, 'not twelve things')
  must(await page.locator('svg.cloth').count() === 12, 'not twelve pictures')
})
await step('a thing goes into the cart without leaving the page', async () => {
  await page.locator('.card', { hasText: 'Indigo denim' }).getByRole('button').click()
  await count('1')
  must(new URL(page.url()).pathname === '/', 'the page was left')
  must((await page.locator('#toast').textContent()).includes('In your cart'), 'nothing was said')
})
await step('three of another from its page', async () => {
  await page.locator('.card', { hasText: 'Silk chiffon' }).locator('a').first().click()
  await page.locator('input[name=count][type=number]').fill('3')
  await page.getByRole('button', { name: 'Add to cart' }).click()
  await count('4')
})
await step('the cart adds up', async () => {
  await page.locator('a.cart').click()
  must((await page.locator('tfoot .price').textContent()) === '137.00 €', 'the total is wrong')
  await page.locator('tr', { hasText: 'Silk chiffon' }).getByLabel('one fewer').click()
  must((await page.locator('tfoot .price').textContent()) === '101.00 €', 'the total is wrong after one fewer')
})
await step('paying gives a receipt and an empty cart', async () => {
  await page.locator('button.pay').click()
  must(/^[A-Z2-7]{12}$/.test(await page.locator('#receipt').textContent()), 'no receipt')
  await page.locator('a.brand').click()
  await count('0')
})
await step('it works without JavaScript', async () => {
  const plain = await context.browser()?.newContext({ javaScriptEnabled: false }) ?? null
  if (!plain) return
  const p = await plain.newPage()
  await p.goto(address + '/products/towel')
  await p.getByRole('button', { name: 'Add to cart' }).click()
  await p.locator('tfoot .price').waitFor()
  await plain.close()
})
await step('the browser complained of nothing', async () => must(complaints.length === 0, complaints.join('; ')))
await context.close()
rmSync(profile, { recursive: true, force: true })
process.exit(failed ? 1 : 0)
