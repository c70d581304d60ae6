import { useState } from 'preact/hooks'
import { chart, key, type Num, type Overview, type Series, type Service, type ServiceStat } from '../api'
import * as format from '../format'
import { ofEndpoints, ofSuccess, tone } from '../health'
import { unknown, useAnswer } from '../live'
import * as Icon from '../ui/icons'
import { Empty, Failed, Head, MutualTLS, SearchBox, ServiceLink, Status, Unit } from '../ui/parts'
import { Spark } from '../ui/spark'
import { type Column, Table } from '../ui/table'

interface Row { service: Service; stat: ServiceStat | undefined; spark: Num[] | undefined }

export function Services({ overview }: { overview: Overview }) {
  const [filter, setFilter] = useState('')
  const sparks = useAnswer<Series>(chart('services', 'requests', undefined, '15m'), 10_000)
  const stats = new Map((overview.stat?.services ?? []).map((s) => [key(s), s]))
  const lines = new Map((sparks.data?.lines ?? []).map((l) => [l.name, l.values]))
  const needle = filter.trim().toLowerCase()
  const rows: Row[] = overview.services
    .filter((s) => key(s).toLowerCase().includes(needle))
    .map((service) => ({ service, stat: stats.get(key(service)), spark: lines.get(key(service)) }))

  const columns: Column<Row>[] = [
    { title: 'Service', cell: (r) => <ServiceLink of={r.service} />, by: (r) => `${r.service.name} ${r.service.namespace}` },
    { title: 'Endpoints', cell: (r) => <EndpointsCell service={r.service} />, by: (r) => r.service.ready },
    { title: 'Success', number: true, cell: (r) => <span class={tone(ofSuccess(r.stat?.success_rate ?? null))}><Unit of={format.percent(r.stat?.success_rate ?? null)} /></span>, by: (r) => r.stat?.success_rate ?? null },
    { title: 'Rate', number: true, cell: (r) => <Unit of={format.rate(r.stat?.rps ?? null)} />, by: (r) => r.stat?.rps ?? null },
    { title: 'Last 15 min', cell: (r) => <Spark values={r.spark} label={`Requests of ${r.service.name} over 15 minutes`} /> },
    { title: 'p50', number: true, cell: (r) => <Unit of={format.millis(r.stat?.latency_ms.p50 ?? null)} />, by: (r) => r.stat?.latency_ms.p50 ?? null },
    { title: 'p95', number: true, cell: (r) => <Unit of={format.millis(r.stat?.latency_ms.p95 ?? null)} />, by: (r) => r.stat?.latency_ms.p95 ?? null },
    { title: 'p99', number: true, cell: (r) => <Unit of={format.millis(r.stat?.latency_ms.p99 ?? null)} />, by: (r) => r.stat?.latency_ms.p99 ?? null },
    { title: 'TCP conn', number: true, cell: (r) => <Unit of={format.count(r.stat?.tcp_connections || null)} />, by: (r) => r.stat?.tcp_connections ?? null },
    { title: 'Security', cell: (r) => <MutualTLS of={r.stat?.mutual_tls ?? null} />, by: (r) => r.stat?.mutual_tls ?? null },
  ]
  return (
    <div class="page">
      <Head title="Services" sub="the last minute"><SearchBox value={filter} onChange={setFilter} label="Find a service" /></Head>
      <div class="card">
        {overview.services.length === 0 && unknown(overview, 'services') ? (
          <Failed what="The services can't be shown" error={unknown(overview, 'services')!} />
        ) : overview.services.length === 0 ? (
          <Empty title="No services yet" icon={<Icon.Box />} code={'tulle run --service hello --port 8080 -- python3 -m http.server 8080\ntulle apply -f mesh.yaml'}>
            A service is a name that callers use and a set of workloads that answer. Start a program with a sidecar beside it, or apply Service objects from a file.
          </Empty>
        ) : rows.length === 0 ? (
          <Empty small title={`No service is called “${filter}”`}>Names are written NAME.NAMESPACE; a part of it is enough.</Empty>
        ) : (
          <Table label="Services" rows={rows} columns={columns} id={(r) => key(r.service)} />
        )}
      </div>
    </div>
  )
}

function EndpointsCell({ service: s }: { service: Service }) {
  if (s.total === 0) return <span class="quiet">{s.routes.length > 0 ? `by route, ${new Set(s.routes.map((r) => r.to)).size} backends` : 'none'}</span>
  return <Status state={ofEndpoints(s.ready, s.total)}>{s.ready} of {s.total}<span class="quiet"> ready</span></Status>
}
