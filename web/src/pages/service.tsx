import { type ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { type EdgeStat, type Endpoint, type Endpoints, key, type Overview, peer, type Peer, type Split } from '../api'
import * as format from '../format'
import { ofSuccess, plaintext, type State, tone } from '../health'
import { sum } from '../topology/model'
import { useAnswer } from '../live'
import { Chart } from '../ui/chart'
import { Card, Copyable, Empty, Failed, Head, MutualTLS, ProxyLink, Segments, ServiceLink, Status, Tag, Tile, Unit } from '../ui/parts'
import { type Column, Table } from '../ui/table'

type Range = '5m' | '15m' | '1h' | '6h'

export function ServicePage({ overview, of }: { overview: Overview; of: Peer }) {
  const [range, setRange] = useState<Range>('15m')
  const service = overview.services.find((s) => key(s) === key(of))
  const stat = overview.stat?.services.find((s) => key(s) === key(of))
  const endpoints = useAnswer<Endpoints>(`/api/services/${encodeURIComponent(of.namespace)}/${encodeURIComponent(of.name)}`, 4000)
  const crumbs = [{ name: 'Services', href: '/services' }, { name: of.namespace, href: '/services' }]
  if (!service && !stat) {
    return <div class="page"><Head title={of.name} crumbs={crumbs} /><div class="card"><Empty title={`No service ${of.name} in namespace ${of.namespace}`} code="tulle get services">It may have been deleted, or be in another namespace.</Empty></div></div>
  }
  const edges = overview.edges?.edges ?? []
  const callers = edges.filter((e) => key(e.to) === key(of))
  const mine = new Set(service?.workloads ?? [])
  const callees = joined(edges.filter((e) => mine.has(key(e.from))))
  // Requests to a service that only routes are counted by the backend they went to.
  const routed = (service?.routes.length ?? 0) > 0 && service!.total === 0 && (stat?.rps ?? null) === null
  const opaque = (stat?.rps ?? null) === null && (stat?.tcp_connections ?? 0) > 0
  const isGateway = (p: Peer) => overview.proxies.find((x) => key(x) === key(p))?.role === 'gateway'

  return (
    <div class="page">
      <Head title={of.name} crumbs={crumbs}>
        {!routed && <Segments label="Range of the charts" of={['5m', '15m', '1h', '6h']} value={range} onChange={setRange} />}
      </Head>
      <div style={{ display: 'flex', gap: '8px', flexWrap: 'wrap', alignItems: 'center', marginTop: '-12px' }}>
        {service?.ports.map((p) => <Tag title="port and declared protocol">{p.port} {p.protocol}</Tag>)}
        {service?.addresses.map((a) => <Tag title="virtual address, the same for the service's whole life"><span class="mono">{a}</span></Tag>)}
        {stat && <MutualTLS of={stat.mutual_tls} />}
      </div>
      {routed && <Routes splits={service!.routes} overview={overview} />}
      {!routed && <div class="tiles">
        {opaque ? (
          <Tile what="Connections" of={format.count(stat?.tcp_connections ?? null)} />
        ) : (
          <>
            <Tile what="Rate" of={format.rate(stat?.rps ?? null)} />
            <Tile what="Success" of={format.percent(stat?.success_rate ?? null)} state={ofSuccess(stat?.success_rate ?? null)} />
            <Tile what="p50" of={format.millis(stat?.latency_ms.p50 ?? null)} />
            <Tile what="p95" of={format.millis(stat?.latency_ms.p95 ?? null)} />
            <Tile what="p99" of={format.millis(stat?.latency_ms.p99 ?? null)} />
          </>
        )}
        <Tile what="Received" of={format.throughput(stat?.received_bytes_per_second ?? null)} />
        <Tile what="Sent" of={format.throughput(stat?.sent_bytes_per_second ?? null)} />
      </div>}
      {!routed && <div class="cards">
        {!opaque && (
          <>
            <Chart title="Requests" sub="per second" subject="service" of={of} chart="requests" range={range} format={format.rate} least={1} none="No requests in this time"
              lines={{ success: { color: '--ok', label: 'succeeded', fill: true }, failure: { color: '--bad', label: 'failed', dash: [4, 3] } }} />
            <Chart title="Latency" sub="first byte of the request to last of the answer" subject="service" of={of} chart="latency" range={range} format={format.millis} least={0.5} none="No requests in this time"
              lines={{ p50: { color: '--series-3', label: 'p50' }, p95: { color: '--series-2', label: 'p95' }, p99: { color: '--series-1', label: 'p99' } }} />
            <Chart title="Success rate" sub="not answered with 5xx" subject="service" of={of} chart="success_rate" range={range} format={(v) => format.percent(v)} top={1} none="No requests in this time"
              lines={{ success_rate: { color: '--ok', label: 'success rate', fill: true } }} />
          </>
        )}
        <Chart title="Bytes" sub="per second, without TLS" subject="service" of={of} chart="bytes" range={range} format={format.throughput} least={100} none="No bytes in this time"
          lines={{ received: { color: '--series-1', label: 'received' }, sent: { color: '--series-2', label: 'sent', dash: [5, 3] } }} />
        {opaque && (
          <Chart title="Connections" sub="open" subject="service" of={of} chart="connections" range={range} format={format.count} least={4} none="No connections in this time"
            lines={{ open: { color: '--series-1', label: 'open', fill: true } }} />
        )}
      </div>}
      {!routed && <div class="cards">
        <Edges title="Called by" edges={callers} other={(e) => e.from} none="Nobody called it in the last minute."
          link={(p) => (p.name === '' ? <span title="callers without an identity of this mesh">outside the mesh</span> : <>{<ProxyLink of={p} short={p.namespace === of.namespace} />}{isGateway(p) && <span class="quiet"> gateway</span>}</>)} />
        <Edges title="Calls" edges={callees} other={(e) => e.to} none="It called nobody in the last minute." link={(p) => (p.namespace ? <ServiceLink of={p} short={p.namespace === of.namespace} /> : <span class="quiet">{p.name || 'outside the mesh'}</span>)} />
      </div>}
      {!routed && (service?.routes.length ?? 0) > 0 && <Routes splits={service!.routes} overview={overview} />}
      {endpoints.error ? <Failed what="The endpoints can't be shown" error={endpoints.error} /> : <EndpointList data={endpoints.data} byRoute={(service?.routes.length ?? 0) > 0} name={of.name} />}
    </div>
  )
}

/** joined makes one edge of those that several workloads have to one service. */
function joined(edges: EdgeStat[]): EdgeStat[] {
  return [...new Set(edges.map((e) => key(e.to)))].map((to) => {
    const same = edges.filter((e) => key(e.to) === to)
    return { ...same[0]!, ...sum(same) }
  })
}

function Edges({ title, edges, other, link, none }: { title: string; edges: EdgeStat[]; other: (e: EdgeStat) => Peer; link: (p: Peer) => ComponentChildren; none: string }) {
  const columns: Column<EdgeStat>[] = [
    { title: title === 'Calls' ? 'Service' : 'Workload', cell: (e) => link(other(e)), by: (e) => key(other(e)) },
    { title: 'Rate', number: true, cell: (e) => (e.protocol === 'tcp' ? <>{format.text(format.count(e.tcp_connections))}<span class="unit">conn</span></> : <Unit of={format.rate(e.rps)} />), by: (e) => e.rps ?? e.tcp_connections },
    { title: 'Success', number: true, cell: (e) => <span class={tone(ofSuccess(e.success_rate))}><Unit of={format.percent(e.success_rate)} /></span>, by: (e) => e.success_rate },
    { title: 'p99', number: true, cell: (e) => <Unit of={format.millis(e.latency_ms.p99)} />, by: (e) => e.latency_ms.p99 },
    { title: 'Security', cell: (e) => <MutualTLS of={e.mutual_tls} />, by: (e) => (plaintext(e) ? 0 : 1) },
  ]
  return (
    <Card title={title} sub={edges.length > 0 ? 'the last minute' : undefined}>
      {edges.length === 0 ? <Empty small title={none} /> : <Table label={title} rows={edges} columns={columns} id={(e) => `${key(e.from)}>${key(e.to)}`} first={1} />}
    </Card>
  )
}

function Routes({ splits, overview }: { splits: Split[]; overview: Overview }) {
  const whole = (s: Split) => splits.filter((x) => x.route === s.route && x.rule === s.rule).reduce((n, x) => n + x.weight, 0)
  const stat = (s: Split) => overview.stat?.services.find((x) => key(x) === s.to)
  const columns: Column<Split>[] = [
    { title: 'Route', cell: (s) => <span class="mono">{s.route.replace(/^httproute\//, '')}</span>, by: (s) => s.route },
    { title: 'Matches', cell: (s) => s.match || <span class="quiet">every request</span>, wrap: true },
    { title: 'Backend', cell: (s) => <ServiceLink of={peer(s.to)} />, by: (s) => s.to },
    { title: 'Share', number: true, cell: (s) => <Unit of={format.percent(whole(s) > 0 ? s.weight / whole(s) : 0)} />, by: (s) => s.weight },
    { title: 'Rate', number: true, cell: (s) => <Unit of={format.rate(stat(s)?.rps ?? null)} />, by: (s) => stat(s)?.rps ?? null },
    { title: 'Success', number: true, cell: (s) => <span class={tone(ofSuccess(stat(s)?.success_rate ?? null))}><Unit of={format.percent(stat(s)?.success_rate ?? null)} /></span>, by: (s) => stat(s)?.success_rate ?? null },
  ]
  return (
    <Card title="Routes" sub="where requests to this service go; the numbers are each backend's own">
      <Table label="Routes" rows={splits} columns={columns} id={(s) => `${s.route}#${s.rule}>${s.to}`} />
    </Card>
  )
}

type Row = Endpoint & { port: number }

const health: Record<string, State> = { healthy: 'ok', suspect: 'warn', draining: 'warn', unhealthy: 'bad' }

function EndpointList({ data, byRoute, name }: { data: Endpoints | null; byRoute: boolean; name: string }) {
  const rows: Row[] = (data?.ports ?? []).flatMap((p) => p.endpoints.map((e) => ({ ...e, port: p.port })))
  const columns: Column<Row>[] = [
    { title: 'Workload', cell: (e) => (e.workload ? <ProxyLink of={peer(e.workload)} /> : <span class="quiet">not in the mesh</span>), by: (e) => e.workload ?? '' },
    { title: 'Health', cell: (e) => <Status state={health[e.health] ?? 'idle'}>{e.health}</Status>, by: (e) => e.health },
    { title: 'Port', number: true, cell: (e) => e.port, by: (e) => e.port },
    { title: 'Address', cell: (e) => <Copyable>{e.address}</Copyable>, by: (e) => e.address },
    { title: 'Identity', cell: (e) => (e.identity ? <Copyable>{e.identity}</Copyable> : <span class="t-warn">none: plaintext</span>), by: (e) => e.identity ?? '' },
    { title: 'Zone', cell: (e) => e.zone || <span class="quiet">–</span>, by: (e) => e.zone ?? '' },
    { title: 'Weight', number: true, cell: (e) => e.weight || 1, by: (e) => e.weight },
  ]
  return (
    <Card title="Endpoints" sub={rows.length > 0 ? `${rows.filter((e) => e.health === 'healthy' || e.health === 'suspect').length} of ${rows.length} may be picked` : undefined}>
      {rows.length > 0 ? <Table label="Endpoints" rows={rows} columns={columns} id={(e) => `${e.port}/${e.address}`} /> : data === null ? <Empty small title="Asking the control plane…" /> : byRoute ? (
        <Empty small title="No endpoints of its own">Its routes send every request to their backends.</Empty>
      ) : (
        <Empty small title="Nobody serves it yet" code={`tulle run --service ${name} --port PORT -- PROGRAM`}>Calls to it fail until a workload registers. Start one with a sidecar beside it:</Empty>
      )}
    </Card>
  )
}
