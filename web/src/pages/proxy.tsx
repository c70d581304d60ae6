import { useState } from 'preact/hooks'
import { key, type Overview, type Peer, type Proxy, type ProxyDetail } from '../api'
import * as format from '../format'
import { ofProxy } from '../health'
import { useAnswer } from '../live'
import { Chart } from '../ui/chart'
import { Dump } from '../ui/dump'
import { Card, Copyable, Empty, Facts, Failed, Head, Segments, ServiceLink, Skeleton, Status, Tag } from '../ui/parts'
import { left, Mode } from './proxies'

type Range = '5m' | '15m' | '1h' | '6h'

const directions = {
  inbound: { color: '--series-1', label: 'inbound' },
  outbound: { color: '--series-2', label: 'outbound', dash: [5, 3] },
  edge: { color: '--ok', label: 'from outside' },
}

export function ProxyPage({ overview, of }: { overview: Overview; of: Peer }) {
  const [range, setRange] = useState<Range>('15m')
  const detail = useAnswer<ProxyDetail>(`/api/proxies/${encodeURIComponent(of.namespace)}/${encodeURIComponent(of.name)}`, 4000)
  const proxy = overview.proxies.find((p) => key(p) === key(of)) ?? detail.data?.proxy
  const crumbs = [{ name: 'Proxies', href: '/proxies' }, { name: of.namespace, href: '/proxies' }]
  if (!proxy) {
    return (
      <div class="page">
        <Head title={of.name} crumbs={crumbs} />
        <div class="card"><Empty title={`No proxy ${of.name} in namespace ${of.namespace}`} code="tulle get proxies">It never connected, or was gone for so long that the control plane forgot it.</Empty></div>
      </div>
    )
  }
  const serves = overview.services.filter((s) => s.workloads.includes(key(of)))
  const verdict = ofProxy(proxy)
  return (
    <div class="page">
      <Head title={of.name} crumbs={crumbs}>
        <Segments label="Range of the charts" of={['5m', '15m', '1h', '6h']} value={range} onChange={setRange} />
      </Head>
      <div style={{ display: 'flex', gap: '8px 14px', flexWrap: 'wrap', alignItems: 'center', marginTop: '-12px' }}>
        <Status state={verdict.state}>{verdict.word}</Status>
        <Tag>{proxy.role}</Tag>
        {proxy.mode && <Tag title="how traffic gets to the proxy">intercepts <Mode of={proxy.mode} /></Tag>}
        {serves.length > 0 && <span class="quiet">serves {serves.map((s, i) => <>{i > 0 && ', '}<ServiceLink of={s} /></>)}</span>}
      </div>
      {proxy.rejected && (
        <div class="card" role="alert"><div class="body"><Status state="bad">The last update was rejected; the one before it stays in force.</Status><div class="hint"><pre>{proxy.rejected}</pre></div></div></div>
      )}
      <div class="cards">
        <IdentityCard proxy={proxy} now={overview.at} from={begin(detail.data?.dump)} />
        <Card title="Control plane">
          <div class="body">
            <Facts of={[
              ['Connection', proxy.connected ? <Status state="ok">connected for {format.span((overview.at - Date.parse(proxy.since)) / 1000)}</Status> : <Status state="bad">lost {format.span((overview.at - Date.parse(proxy.since)) / 1000)} ago; traffic goes on with the last good state</Status>],
              ['Config', proxy.acknowledged === proxy.sent ? <>version {proxy.acknowledged}, all in force</> : <span class="t-warn">version {proxy.acknowledged} in force, {proxy.sent} sent</span>],
              ['Watches', <>{proxy.subscriptions} {proxy.subscriptions === 1 ? 'resource' : 'resources'}</>],
              ['Program', <>{proxy.version}{proxy.pid > 0 && <span class="quiet"> · process {proxy.pid}</span>}</>],
              ['Zone', proxy.zone || <span class="quiet">–</span>],
              ...(proxy.detail ? [['Says', proxy.detail] as [string, string]] : []),
            ]} />
          </div>
        </Card>
      </div>
      <div class="cards">
        <Chart title="Requests" sub="per second" subject="proxy" of={of} chart="requests" range={range} format={format.rate} least={1} none="No requests in this time" lines={directions} />
        <Chart title="Latency" sub="all directions" subject="proxy" of={of} chart="latency" range={range} format={format.millis} least={0.5} none="No requests in this time"
          lines={{ p50: { color: '--series-3', label: 'p50' }, p95: { color: '--series-2', label: 'p95' }, p99: { color: '--series-1', label: 'p99' } }} />
        <Chart title="Connections" sub="open" subject="proxy" of={of} chart="connections" range={range} format={format.count} least={4} none="No connections in this time" lines={directions} />
        <Chart title="Memory" sub="resident" subject="proxy" of={of} chart="memory" range={range} format={format.bytes} least={1e6} none="Nothing was scraped in this time" lines={{ resident: { color: '--series-1', label: 'resident', fill: true } }} />
      </div>
      {detail.error && <Failed what="What the proxy believes can't be shown" error={detail.error} />}
      {detail.data?.problem && <Failed what="The proxy can't be asked what it believes" error={detail.data.problem} />}
      {detail.data?.dump !== undefined ? <Dump of={detail.data.dump} /> : !detail.data && !detail.error && <Skeleton height={180} />}
    </div>
  )
}

/** begin is when the certificate began, as the proxy says. */
function begin(dump: unknown): number | null {
  const from = (dump as { identity?: { not_before?: string } } | undefined)?.identity?.not_before
  return from ? Date.parse(from) : null
}

/** The usual life of a certificate, for when only its end is known. */
const day = 24 * 3600

function IdentityCard({ proxy, now, from }: { proxy: Proxy; now: number; from: number | null }) {
  const seconds = left(proxy, now)
  const life = from !== null && proxy.certificateExpires ? Math.max(1, (Date.parse(proxy.certificateExpires) - from) / 1000) : day
  const tone = seconds === null ? '' : seconds <= 0 ? 'bad' : seconds < life / 10 ? 'warn' : ''
  return (
    <Card title="Identity">
      <div class="body">
        <Facts of={[
          ['SPIFFE id', proxy.identity ? <Copyable>{proxy.identity}</Copyable> : <span class="quiet">none: plaintext only</span>],
          ['Certificate', seconds === null ? <span class="quiet">–</span> : seconds <= 0 ? <span class="t-bad">expired {format.span(-seconds)} ago</span> : <>ends in {format.span(seconds)} {from !== null && <span class="quiet">of {format.span(life)} · renewed long before</span>}</>],
          ...(seconds !== null ? [['', <div class={`bar ${tone}`} style={{ marginTop: '4px' }} title={new Date(proxy.certificateExpires!).toLocaleString('en-GB')}><i style={{ width: `${Math.max(0, Math.min(100, (seconds / life) * 100))}%` }} /></div>] as [string, preact.JSX.Element]] : []),
          ['Instance', <span class="mono">{proxy.uid || '–'}</span>],
        ]} />
      </div>
    </Card>
  )
}
