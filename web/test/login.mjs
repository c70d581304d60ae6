// Logs in to a dashboard with operators, in a real browser, and says how it went,
// a line a step. internal/dashboard's TestLoginBrowser starts it:
//   node login.mjs ADDRESS SCREENSHOT-FOLDER CHROMIUM CODE TOKEN
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const [address, folder, executablePath, code, token] = process.argv.slice(2)
mkdirSync(folder, { recursive: true })
const profile = mkdtempSync(join(tmpdir(), 'tulle-browser-'))
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1440, height: 900 },
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const page = context.pages()[0] ?? (await context.newPage())
page.setDefaultTimeout(30_000)
const complaints = []
page.on('pageerror', (e) => complaints.push(e.message))
page.on('console', (m) => m.type() === 'error' && !/401/.test(m.text()) && complaints.push(m.text()))

let failed = 0
async function step(name, act) {
  try {
    await act()
    if (complaints.length > 0) throw new Error(`the browser complained: ${complaints.splice(0).join('; ')}`)
    console.log(`ok ${name}`)
  } catch (error) {
    failed++
    console.log(`failed ${name}: ${String(error.message).split('\n').slice(0, 3).join(' | ')}`)
    await page.screenshot({ path: join(folder, `failed-login-${failed}.png`) }).catch(() => {})
  }
}
const must = (condition, what) => {
  if (!condition) throw new Error(what)
}
const sees = (text) => page.getByText(text).first().waitFor()

await step('a stranger is asked who they are', async () => {
  await page.goto(address + '/services')
  await sees('This mesh has operators')
  must((await page.getByText('ledger').count()) === 0, 'the page shows a service')
  await page.screenshot({ path: join(folder, 'login.png') })
})
await step('a wrong token is refused', async () => {
  await page.getByLabel(/a token/).fill('guess')
  await page.getByRole('button', { name: 'Log in' }).click()
  await sees("You aren't logged in")
})
await step('a link lets in, and leaves nothing in the address', async () => {
  await page.goto('about:blank')
  await page.goto(`${address}/login#${code}`)
  await sees('ben')
  await sees('View · billing')
  must(new URL(page.url()).pathname === '/' && new URL(page.url()).hash === '', `the address is ${page.url()}`)
})
await step('only the namespaces of the operator are there', async () => {
  await page.getByRole('link', { name: /^Services/ }).click()
  await sees('ledger')
  must((await page.getByText('recommendations').count()) === 0, 'the page shows a service of another namespace')
  await page.screenshot({ path: join(folder, 'operator.png') })
})
await step('scripts see no session', async () => {
  must((await page.evaluate(() => document.cookie)) === '', 'a script can read the cookie')
  const [cookie] = await context.cookies(address + '/api/me')
  must(cookie?.httpOnly && cookie.sameSite === 'Strict', JSON.stringify(cookie))
})
await step('the session outlives the page', async () => {
  await page.reload()
  await sees('View · billing')
})
await step('who logs out is out', async () => {
  await page.getByRole('button', { name: 'Log out' }).click()
  await sees('This mesh has operators')
  must((await page.getByText('ledger').count()) === 0, 'the page shows a service')
})
await step('the link is used up', async () => {
  await page.goto('about:blank')
  await page.goto(`${address}/login#${code}`)
  await sees('used already')
})
await step('a token lets in', async () => {
  await page.getByLabel(/a token/).fill(token)
  await page.getByRole('button', { name: 'Log in' }).click()
  await sees('View · billing')
})
await step('a session that ends while the page is open asks again', async () => {
  await context.clearCookies()
  await page.reload()
  await sees('This mesh has operators')
})

await context.close()
rmSync(profile, { recursive: true, force: true })
process.exit(failed > 0 ? 1 : 0)
