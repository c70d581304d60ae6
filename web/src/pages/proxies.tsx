import { useState } from 'preact/hooks'
import { key, type Overview, type Proxy } from '../api'
import * as format from '../format'
import { ofProxy } from '../health'
import { unknown } from '../live'
import * as Icon from '../ui/icons'
import { Empty, Failed, Head, ProxyLink, SearchBox, Status, Unit } from '../ui/parts'
import { type Column, Table } from '../ui/table'

/** left is a certificate's rest of life in seconds; null when not known. */
export const left = (p: Proxy, now: number): number | null => (p.certificateExpires ? (Date.parse(p.certificateExpires) - now) / 1000 : null)

export function Proxies({ overview }: { overview: Overview }) {
  const [filter, setFilter] = useState('')
  const needle = filter.trim().toLowerCase()
  const rows = overview.proxies.filter((p) => `${key(p)} ${p.identity}`.toLowerCase().includes(needle))
  const now = overview.at
  const columns: Column<Proxy>[] = [
    { title: 'Proxy', cell: (p) => <ProxyLink of={p} />, by: (p) => `${p.name} ${p.namespace}` },
    { title: 'State', cell: (p) => <Status state={ofProxy(p).state}>{ofProxy(p).word}</Status>, by: (p) => ofProxy(p).word },
    { title: 'Role', cell: (p) => p.role, by: (p) => p.role },
    { title: 'Interception', cell: (p) => <Mode of={p.mode} />, by: (p) => p.mode },
    { title: 'Certificate ends in', number: true, cell: (p) => <Certificate proxy={p} now={now} />, by: (p) => left(p, now) },
    { title: 'Config', number: true, cell: (p) => (p.acknowledged === p.sent ? <>{p.acknowledged}</> : <span class="t-warn" title={`${p.sent} was sent, ${p.acknowledged} is in force`}>{p.acknowledged} of {p.sent}</span>), by: (p) => p.acknowledged },
    { title: 'Watches', number: true, cell: (p) => <Unit of={format.count(p.subscriptions)} />, by: (p) => p.subscriptions },
    { title: 'Connected for', number: true, cell: (p) => (p.connected ? format.span((now - Date.parse(p.since)) / 1000) : <span class="quiet">–</span>), by: (p) => -Date.parse(p.since) },
    { title: 'Version', cell: (p) => <span class="mono">{p.version}</span>, by: (p) => p.version },
  ]
  return (
    <div class="page">
      <Head title="Proxies"><SearchBox value={filter} onChange={setFilter} label="Find a proxy" /></Head>
      <div class="card">
        {overview.proxies.length === 0 && unknown(overview, 'proxies') ? (
          <Failed what="The proxies can't be shown" error={unknown(overview, 'proxies')!} />
        ) : overview.proxies.length === 0 ? (
          <Empty title="No proxy has connected yet" icon={<Icon.Shield />} code="tulle run --service hello --port 8080 -- python3 -m http.server 8080">
            Each workload of the mesh has a proxy beside it, which does mutual TLS, balances, and measures. <code>tulle run</code> starts one together with your program:
          </Empty>
        ) : rows.length === 0 ? (
          <Empty small title={`No proxy is called “${filter}”`}>Names are written NAME.NAMESPACE; a part of it, or of the identity, is enough.</Empty>
        ) : (
          <Table label="Proxies" rows={rows} columns={columns} id={key} />
        )}
      </div>
    </div>
  )
}

/** Mode says how a program's traffic gets to its proxy. */
export function Mode({ of }: { of: string }) {
  if (of === 'explicit') return <span class="t-warn" title="The program sends what it wants to its proxy's loopback ports: the rest goes around it.">loopback ports</span>
  if (of === 'netns') return <span title="The program is in a network namespace of its own: nothing it sends or receives goes around its proxy.">all traffic</span>
  return <span class="quiet">{of || '–'}</span>
}

function Certificate({ proxy, now }: { proxy: Proxy; now: number }) {
  const seconds = left(proxy, now)
  if (seconds === null) return <span class="quiet">–</span>
  if (seconds <= 0) return <span class="t-bad">expired</span>
  return <>{format.span(seconds)}</>
}
