// Packs the built files beside themselves (NAME.gz) and holds the first view to
// its budget. fflate packs in JavaScript and writes no time, so the same build
// gives the same bytes on every machine; zlib differs from one to the next.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'fflate'

const dist = new URL('../../internal/dashboard/dist/', import.meta.url).pathname
const budget = 120 * 1024 // bytes of packed JavaScript that the first view loads

function files(dir) {
  return readdirSync(dir, { withFileTypes: true })
    .flatMap((f) => (f.isDirectory() ? files(join(dir, f.name)) : [join(dir, f.name)]))
    .sort()
}

const packed = new Map()
for (const file of files(dist)) {
  if (!/\.(html|js|css|svg|txt)$/.test(file)) continue
  const gz = gzipSync(readFileSync(file), { level: 9, mtime: 0 })
  writeFileSync(file + '.gz', gz)
  packed.set(file.slice(dist.length), gz.length)
}

const html = readFileSync(join(dist, 'index.html'), 'utf8')
let first = 0
for (const [file, size] of packed) {
  if (file.endsWith('.js') && html.includes(file)) first += size
}
for (const [file, size] of packed) console.log(`${String(size).padStart(7)}  ${file}`)
console.log(`first view: ${first} of ${budget} bytes of packed JavaScript`)
if (first > budget) {
  console.error('over the budget: load what the first view does not need later (import())')
  process.exit(1)
}
