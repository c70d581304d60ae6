import { describe, expect, it } from 'vitest'
import type { EdgeStat, Overview, Proxy, Service, Signals } from '../src/api'
import { curve, place } from '../src/topology/layout'
import { build, focus, mostDrawn, shapeOf, sum } from '../src/topology/model'

const signals = (rps: number | null, success: number | null = 1, mutual: number | null = 1, p99: number | null = 10): Signals => ({
  rps, success_rate: success, latency_ms: { p50: p99 && p99 / 4, p95: p99 && p99 / 2, p99 }, mutual_tls: mutual,
  tcp_connections: rps === null ? 2 : 0, received_bytes_per_second: 100, sent_bytes_per_second: 200,
})
const service = (name: string, workloads: string[], more: Partial<Service> = {}): Service => ({
  name, namespace: 'default', ports: [], addresses: [], workloads: workloads.map((w) => `${w}.default`), ready: workloads.length, total: workloads.length, routes: [], ...more,
})
const proxy = (name: string, role = 'sidecar', more: Partial<Proxy> = {}): Proxy => ({
  name, namespace: 'default', role, identity: '', version: '', uid: '', pid: 1, mode: '', connected: true, since: '', ready: true, draining: false,
  sent: 1, acknowledged: 1, subscriptions: 0, ...more,
})
const edge = (from: string, to: string, s: Signals): EdgeStat => ({
  from: { name: from, namespace: from && 'default' }, to: { name: to, namespace: 'default' }, protocol: s.rps === null ? 'tcp' : 'http', ...s,
})
const overview = (o: Partial<Overview>): Overview => ({ at: 0, status: null, check: null, stat: { window: '1m', services: [] }, edges: { window: '1m', edges: [] }, services: [], proxies: [], problems: [], ...o })

describe('the graph', () => {
  it('shows the workloads of a service as one node, and joins their edges', () => {
    const g = build(overview({
      services: [service('web', ['web-1', 'web-2']), service('cart', ['cart-1'])],
      proxies: [proxy('web-1'), proxy('web-2'), proxy('cart-1')],
      edges: { window: '1m', edges: [edge('web-1', 'cart', signals(10, 1, 1, 8)), edge('web-2', 'cart', signals(30, 0.9, 1, 20))] },
    }))
    expect(g.nodes.map((n) => n.id)).toEqual(['service:cart.default', 'service:web.default'])
    expect(g.links).toHaveLength(1)
    expect(g.links[0]).toMatchObject({ from: 'service:web.default', to: 'service:cart.default', kind: 'calls', protocol: 'http', plaintext: false, state: 'bad' })
    expect(g.links[0]!.signals.rps).toBe(40)
    expect(g.links[0]!.signals.success_rate).toBeCloseTo(0.925)
    expect(g.links[0]!.signals.latency_ms.p99).toBe(20)
  })
  it('has nodes for gateways, callers without a service and those outside', () => {
    const g = build(overview({
      services: [service('web', ['web-1'])], proxies: [proxy('web-1'), proxy('edge', 'gateway'), proxy('load')],
      edges: { window: '1m', edges: [edge('edge', 'web', signals(1)), edge('load', 'web', signals(1)), edge('', 'web', signals(1, 1, 0))] },
    }))
    expect(g.nodes.map((n) => [n.id, n.kind])).toEqual([
      ['gateway:edge.default', 'gateway'], ['outside', 'outside'], ['service:web.default', 'service'], ['workload:load.default', 'workload'],
    ])
    expect(g.links.find((l) => l.from === 'outside')).toMatchObject({ plaintext: true })
  })
  it('gathers all calls out of the mesh at one node', () => {
    const g = build(overview({ services: [service('web', ['web-1'])], proxies: [proxy('web-1')], edges: { window: '1m', edges: [{ ...edge('web-1', '', signals(1, 1, null)), to: { name: '', namespace: '' } }] } }))
    expect(g.nodes.map((n) => [n.id, n.kind])).toEqual([['elsewhere', 'elsewhere'], ['service:web.default', 'service']])
    expect(g.links[0]).toMatchObject({ from: 'service:web.default', to: 'elsewhere', plaintext: false })
  })
  it('calls to a place outside that a policy names', () => {
    const g = build(overview({ services: [service('web', ['web-1'])], proxies: [proxy('web-1')], edges: { window: '1m', edges: [{ ...edge('web-1', '', signals(1, 1, null)), to: { name: 'external/payments', namespace: '' } }] } }))
    expect(g.nodes.map((n) => [n.id, n.kind])).toEqual([['external/payments', 'elsewhere'], ['service:web.default', 'service']])
    expect(g.links[0]).toMatchObject({ from: 'service:web.default', to: 'external/payments', plaintext: false })
  })
  it('keeps a gateway without traffic in sight', () => {
    expect(build(overview({ proxies: [proxy('edge', 'gateway'), proxy('lonely')] })).nodes.map((n) => n.id)).toEqual(['gateway:edge.default'])
  })
  it('links a route to its backends with their shares', () => {
    const split = (to: string, weight: number) => ({ route: 'httproute/default/r', rule: 0, match: '', to, weight })
    const g = build(overview({ services: [service('r', [], { routes: [split('v1.default', 80), split('v2.default', 20)] }), service('v1', ['v1']), service('v2', ['v2'], { ready: 0 })] }))
    expect(g.links.map((l) => [l.to, l.kind, l.share, l.signals.rps])).toEqual([['service:v1.default', 'route', 0.8, null], ['service:v2.default', 'route', 0.2, null]])
    const r = g.nodes.find((n) => n.name === 'r')!
    expect([r.ready, r.total, r.state, r.routes]).toEqual([1, 2, 'warn', 2])
  })
  it.each([[2, 2, 'ok'], [1, 2, 'warn'], [0, 2, 'bad'], [0, 0, 'idle']])('%d of %d endpoints is %s', (ready, total, state) => {
    expect(build(overview({ services: [service('s', [], { ready, total })] })).nodes[0]!.state).toBe(state)
  })
  it('has another shape only when something comes or goes', () => {
    const of = (rps: number, names: string[]) => build(overview({ services: names.map((n) => service(n, [n])), edges: { window: '1m', edges: [edge('a', 'b', signals(rps))] } }))
    expect(shapeOf(of(1, ['a', 'b']))).toBe(shapeOf(of(2, ['a', 'b'])))
    expect(shapeOf(of(1, ['a', 'b']))).not.toBe(shapeOf(of(1, ['a', 'b', 'c'])))
  })
})

describe('a large mesh', () => {
  const names = [...Array(mostDrawn + 30)].map((_, i) => `s${i}`)
  const g = build(overview({
    services: names.map((n, i) => service(n, [n], i === 140 ? { ready: 0 } : {})),
    stat: { window: '1m', services: names.map((name, i) => ({ name, namespace: 'default', meshed: { ready: 1, total: 1 }, ...signals(i) })) },
    edges: { window: '1m', edges: [edge('s1', 's2', signals(1))] },
  }))
  it('is drawn as those in trouble and the busiest', () => {
    const drawn = focus(g, null).nodes.map((n) => n.name)
    expect(drawn).toHaveLength(mostDrawn)
    expect(drawn).toEqual(expect.arrayContaining(['s140', 's149', 's30']))
    expect(drawn).not.toContain('s2')
  })
  it('is drawn around what is searched for', () => {
    const near = focus(g, new Set(['service:s2.default']))
    expect(near.nodes.map((n) => n.name)).toEqual(['s1', 's2'])
    expect(near.links).toHaveLength(1)
  })
  it('is itself when it is small', () => {
    const small = build(overview({ services: [service('a', ['a'])] }))
    expect(focus(small, null)).toBe(small)
  })
})

describe('sum', () => {
  it('leaves unknown what nobody knows', () => {
    const s = sum([signals(null, null, null, null), signals(null, null, null, null)])
    expect([s.rps, s.success_rate, s.mutual_tls, s.latency_ms.p99]).toEqual([null, null, null, null])
    expect(s.tcp_connections).toBe(4)
  })
})

describe('the layout', () => {
  const names = ['edge', 'web', 'cart', 'catalogue', 'payment', 'store']
  const g = build(overview({
    services: names.map((n) => service(n, [n])),
    edges: { window: '1m', edges: [['edge', 'web'], ['web', 'cart'], ['web', 'catalogue'], ['cart', 'payment'], ['cart', 'store'], ['cart', 'cart']].map(([a, b]) => edge(a!, b!, signals(1))) },
  }))
  it.each([[2400, 700], [700, 1400]])('puts nothing on top of anything in %d × %d', (width, height) => {
    const l = place(g, width, height)
    expect(l.nodes.size).toBe(names.length)
    const at = [...l.nodes.values()]
    at.forEach((a, i) => at.slice(i + 1).forEach((b) => expect(Math.abs(a.x - b.x) >= 212 || Math.abs(a.y - b.y) >= 76).toBe(true)))
    for (const { points } of l.links.values()) expect(points.length).toBeGreaterThan(1)
  })
  it('goes across a wide window and down a tall one', () => {
    const x = (l: ReturnType<typeof place>, id: string) => l.nodes.get(`service:${id}.default`)!
    const wide = place(g, 2400, 700)
    const tall = place(g, 700, 1400)
    expect(x(wide, 'store').x - x(wide, 'edge').x).toBeGreaterThan(400)
    expect(x(tall, 'store').y - x(tall, 'edge').y).toBeGreaterThan(300)
  })
  it('draws a curve through its ends', () => {
    expect(curve([{ x: 0, y: 0 }, { x: 10, y: 0 }])).toBe('M0 0L10 0')
    expect(curve([{ x: 0, y: 0 }, { x: 5, y: 9 }, { x: 10, y: 0 }])).toBe('M0 0Q5 9 10 0')
  })
})
