// What a proxy believes, as it says it itself: lists become tables, the rest
// facts. It makes no assumption about which parts there are, so a new part of the
// dump is shown the day it exists.
import type { ComponentChildren } from 'preact'
import { span } from '../format'
import { Card, Copyable, Empty, Facts } from './parts'
import { type Column, Table } from './table'

type Value = unknown
type Entry = Record<string, Value>

const isObject = (v: Value): v is Entry => typeof v === 'object' && v !== null && !Array.isArray(v)

/** words turns "lastGoodVersion" and "last_good_version" into "Last good version". */
export function words(name: string): string {
  const spaced = name.replace(/_/g, ' ').replace(/([a-z0-9])([A-Z])/g, (_m, a: string, b: string) => `${a} ${b.toLowerCase()}`)
  return spaced.charAt(0).toUpperCase() + spaced.slice(1)
}

const instant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/

interface Rule { matches?: Entry[]; filters?: string[]; backends: { destination: string; weight: number }[] }

/** rules writes a route table in words: "/api/… → cart.default:8080". */
export function rules(hosts: { hostnames: string[]; rules: Rule[] }[]): string[] {
  return hosts.flatMap((h) =>
    h.rules.map((r) => {
      const host = h.hostnames.filter((n) => n !== '*').join(', ')
      const matches = (r.matches ?? []).map((m) => [m.method, m.path ?? (m.path_prefix && m.path_prefix !== '/' ? `${String(m.path_prefix).replace(/\/$/, '')}/…` : ''), m.path_expression ? `~ ${m.path_expression}` : '', m.grpc_method ? `…/${m.grpc_method}` : '', ...Object.entries((m.query as Entry) ?? {}).map(([k, x]) => `?${k}=${x}`), ...Object.entries((m.headers as Entry) ?? {}).map(([k, x]) => `${k}: ${x}`)].filter(Boolean).join(' ')).filter(Boolean)
      // One match that any request meets makes the others pointless.
      const any = matches.length < (r.matches ?? []).length
      const whole = r.backends.reduce((n, b) => n + b.weight, 0)
      const to = r.backends.map((b) => (r.backends.length > 1 ? `${b.destination} ${whole > 0 ? Math.round((b.weight / whole) * 100) : 0} %` : b.destination)).filter(Boolean).join(', ')
      const does = (r.filters ?? []).join(', ')
      return [host, any ? '' : matches.join(' or '), '→', to, does && `(${does})`, !to && !(r.filters ?? []).includes('redirect') && 'no backend'].filter(Boolean).join(' ')
    }),
  )
}

const isRoutes = (v: Value): v is Parameters<typeof rules>[0] => Array.isArray(v) && v.length > 0 && v.every((x) => isObject(x) && Array.isArray(x.rules))

export function show(v: Value): ComponentChildren {
  if (isRoutes(v)) return rules(v).map((line) => <div class="mono lines">{line}</div>)
  if (v === null || v === undefined || v === '') return <span class="quiet">–</span>
  if (typeof v === 'boolean') return v ? 'yes' : 'no'
  if (typeof v === 'number') return v.toLocaleString('en', { maximumFractionDigits: 3 })
  if (typeof v === 'string') {
    if (instant.test(v)) {
      const seconds = (Date.parse(v) - Date.now()) / 1000
      return <span title={v}>{seconds > 0 ? `in ${span(seconds)}` : `${span(-seconds)} ago`}</span>
    }
    return v.length > 24 || /[/:.]/.test(v) ? <Copyable>{v}</Copyable> : v
  }
  if (Array.isArray(v)) {
    if (v.length === 0) return <span class="quiet">–</span>
    return v.every((x) => !isObject(x)) ? v.map(String).join(', ') : v.length === 1 ? show(v[0]) : <span class="quiet">{v.length} {v.length === 1 ? 'entry' : 'entries'}</span>
  }
  return Object.entries(v as Entry).map(([name, x], i) => <>{i > 0 && <span class="quiet"> · </span>}<span class="quiet">{words(name).toLowerCase()}</span> {Array.isArray(x) && x.every((y) => !isObject(y)) ? x.join(', ') : isObject(x) || Array.isArray(x) ? `${Object.keys(x).length}` : String(x)}</>)
}

/** rowsOf reads a list of objects, or an object of objects by key. */
export function rowsOf(v: Value): Entry[] | null {
  if (Array.isArray(v) && v.length > 0 && v.every(isObject)) return v as Entry[]
  if (isObject(v)) {
    const entries = Object.entries(v)
    if (entries.length > 0 && entries.every(([, x]) => isObject(x))) return entries.map(([k, x]) => ({ key: k, ...(x as Entry) }))
  }
  return null
}

function columnsOf(rows: Entry[]): Column<Entry>[] {
  const names: string[] = []
  for (const row of rows) for (const name of Object.keys(row)) if (!names.includes(name)) names.push(name)
  return names.map((name) => {
    const values = rows.map((r) => r[name])
    const number = values.every((v) => v === undefined || v === null || typeof v === 'number')
    const plain = values.every((v) => !isObject(v) && !Array.isArray(v))
    return {
      title: words(name), number, cell: (r) => show(r[name]),
      by: plain ? (r) => (typeof r[name] === 'number' ? (r[name] as number) : r[name] == null ? null : String(r[name])) : undefined,
    }
  })
}

/** flatten turns rows with one list inside ("endpoints" of a destination) into
 *  rows of that list, so that nothing hides behind a count. */
export function flatten(rows: Entry[]): Entry[] {
  const inner = [...new Set(rows.flatMap((r) => Object.keys(r).filter((k) => Array.isArray(r[k]) && !isRoutes(r[k]) && (r[k] as Value[]).some(isObject))))]
  if (inner.length !== 1) return rows
  const name = inner[0]!
  return rows.flatMap((r) => {
    const { [name]: list, ...rest } = r
    const children = (Array.isArray(list) ? list : []).filter(isObject)
    return children.length === 0 ? [rest] : children.map((c) => ({ ...rest, ...c }))
  })
}

// Parts that have a better name, in the order in which they are read; others follow.
const titles: Record<string, string> = {
  listeners: 'Listeners', endpoints: 'Endpoints it may pick', destinations: 'Destinations', hosts: 'Names and addresses it looked up', pools: 'Connection pools',
  connections: 'Connections', control: 'Conversation with the control plane', identity: 'Certificate', proxy: 'Its own description',
}
const title = (name: string) => titles[name] ?? words(name)
const order = Object.keys(titles)
const rank = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length)

export function Dump({ of }: { of: Value }) {
  if (!isObject(of)) return null
  const facts: [string, ComponentChildren][] = []
  const sections: [string, Entry[]][] = []
  const lists: [string, [string, ComponentChildren][]][] = []
  const nothing: string[] = []
  for (const [name, v] of Object.entries(of).sort(([a], [b]) => rank(a) - rank(b))) {
    const rows = rowsOf(v)
    if (rows) sections.push([name, flatten(rows)])
    else if (isObject(v) && Object.keys(v).length > 0) lists.push([name, Object.entries(v).filter(([, x]) => !isObject(x) || Object.keys(x).length > 0).map(([k, x]) => [words(k), show(x)])])
    else if (Array.isArray(v) && v.length === 0) nothing.push(title(name))
    else facts.push([words(name), show(v)])
  }
  return (
    <>
      {(facts.length > 0 || lists.length > 0) && (
        <div class="cards">
          {facts.length > 0 && <Card title="What it believes" sub="told by the proxy itself"><div class="body"><Facts of={facts} /></div></Card>}
          {lists.map(([name, list]) => <Card key={name} title={title(name)}><div class="body"><Facts of={list} /></div></Card>)}
        </div>
      )}
      {sections.map(([name, rows]) => (
        <Card key={name} title={title(name)} sub={`${rows.length}`}>
          <Table label={title(name)} rows={rows.map((r, i) => ({ ...r, '\u0000': i }))} columns={columnsOf(rows)} id={(r) => String(r['\u0000'])} first={-1} />
        </Card>
      ))}
      {nothing.length > 0 && <Card title={nothing.join(', ')}><Empty small title="None now" /></Card>}
      <details class="card raw"><summary>All of it, as JSON</summary><pre>{JSON.stringify(of, null, 2)}</pre></details>
    </>
  )
}
