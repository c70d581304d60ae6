// The picture of the mesh as data: who is there, who calls whom, how it goes.
// Pure: an overview in, nodes and links out.
import { type EdgeStat, key, type Num, type Overview, type Peer, type Proxy, type Signals } from '../api'
import { active, ofEndpoints, ofSuccess, plaintext, type State, worst } from '../health'

export type NodeKind = 'service' | 'gateway' | 'workload' | 'outside' | 'elsewhere'

export interface Node {
  id: string
  kind: NodeKind
  name: string
  namespace: string
  /** A service's own numbers; null for those who only call. */
  signals: Signals | null
  ready: number
  total: number
  state: State
  proxies: Peer[]
  /** What a gateway or a caller without a service sends. */
  sends?: Signals | null
  /** How many services its routes lead to. */
  routes: number
}

export interface Link {
  id: string
  from: string
  to: string
  kind: 'calls' | 'route'
  protocol: 'http' | 'tcp'
  signals: Signals
  /** Of a route: which share of its requests goes here, 0 to 1, and what it matches. */
  share: Num
  match: string
  state: State
  plaintext: boolean
}

export interface Graph { nodes: Node[]; links: Link[] }

const serviceID = (k: string) => `service:${k}`
export const outsideID = 'outside'
export const elsewhereID = 'elsewhere'
const external = 'external/'

export function build(o: Overview): Graph {
  const nodes = new Map<string, Node>()
  const stats = new Map((o.stat?.services ?? []).map((s) => [key(s), s]))
  const owner = new Map<string, string>() // workload to the service it is shown as
  const proxies = new Map(o.proxies.map((p) => [key(p), p]))

  for (const s of o.services) {
    const k = key(s)
    const signals = stats.get(k) ?? null
    nodes.set(serviceID(k), {
      id: serviceID(k), kind: 'service', name: s.name, namespace: s.namespace, signals, ready: s.ready, total: s.total,
      state: worst(ofEndpoints(s.ready, s.total), ofSuccess(signals?.success_rate ?? null)),
      routes: new Set(s.routes.map((r) => r.to)).size,
      proxies: s.workloads.filter((w) => proxies.has(w)).map((w) => proxies.get(w)!).map(({ name, namespace }) => ({ name, namespace })),
    })
    for (const w of s.workloads) if (!owner.has(w)) owner.set(w, serviceID(k))
  }
  // Numbers of a service that is gone, or that the mesh has no object for.
  for (const [k, s] of stats) {
    if (!nodes.has(serviceID(k)) && active(s)) {
      nodes.set(serviceID(k), { id: serviceID(k), kind: 'service', name: s.name, namespace: s.namespace, signals: s, ready: 0, total: 0, state: ofSuccess(s.success_rate), proxies: [], routes: 0 })
    }
  }

  const caller = (p: Peer): string => {
    if (!p.name) {
      if (!nodes.has(outsideID)) nodes.set(outsideID, { id: outsideID, kind: 'outside', name: 'Outside the mesh', namespace: '', signals: null, ready: 0, total: 0, state: 'idle', proxies: [], routes: 0 })
      return outsideID
    }
    const owned = owner.get(key(p))
    if (owned) return owned
    const proxy = proxies.get(key(p))
    const kind = proxy?.role === 'gateway' ? 'gateway' : 'workload'
    const id = `${kind}:${key(p)}`
    if (!nodes.has(id)) nodes.set(id, callerNode(id, kind, p, proxy))
    return id
  }
  for (const p of o.proxies) if (p.role === 'gateway') caller(p)

  const groups = new Map<string, EdgeStat[]>()
  for (const e of o.edges?.edges ?? []) {
    const from = caller(e.from)
    const named = e.to.name.startsWith(external) && !e.to.namespace // by an egress policy
    const to = named ? e.to.name : e.to.name ? serviceID(key(e.to)) : elsewhereID
    if (named) {
      if (!nodes.has(to)) nodes.set(to, { id: to, kind: 'elsewhere', name: e.to.name.slice(external.length), namespace: '', signals: null, ready: 0, total: 0, state: 'idle', proxies: [], routes: 0 })
    } else if (to === elsewhereID) {
      if (!nodes.has(to)) nodes.set(to, { id: to, kind: 'elsewhere', name: 'Elsewhere', namespace: '', signals: null, ready: 0, total: 0, state: 'idle', proxies: [], routes: 0 })
    } else if (!nodes.has(to)) nodes.set(to, { id: to, kind: 'service', name: e.to.name, namespace: e.to.namespace, signals: null, ready: 0, total: 0, state: 'idle', proxies: [], routes: 0 })
    const id = `${from}>${to}`
    groups.set(id, [...(groups.get(id) ?? []), e])
  }
  const links = new Map<string, Link>()
  for (const [id, edges] of groups) {
    const [from, to] = id.split('>') as [string, string]
    const signals = sum(edges)
    links.set(id, {
      id, from, to, kind: 'calls', protocol: edges.some((e) => e.protocol === 'http') ? 'http' : 'tcp', signals, share: null, match: '',
      state: ofSuccess(signals.success_rate), plaintext: plaintext(signals),
    })
  }

  // A route's backends: what arrives at them came through the service.
  for (const s of o.services) {
    const from = serviceID(key(s))
    for (const r of s.routes) {
      const to = serviceID(r.to)
      const id = `${from}>${to}`
      if (to === from || links.has(id) || !nodes.has(to)) continue
      const whole = s.routes.filter((x) => x.route === r.route && x.rule === r.rule).reduce((n, x) => n + x.weight, 0)
      // When callers are counted by backend, the route itself has no numbers.
      const signals = known(stats.get(key(s)) ?? null) ? stats.get(r.to) ?? empty : empty
      links.set(id, {
        id, from, to, kind: 'route', protocol: 'http', signals, share: whole > 0 ? r.weight / whole : 0, match: r.match,
        state: ofSuccess(signals.success_rate), plaintext: plaintext(signals),
      })
    }
  }
  // Services that only route have no endpoints: their backends' are theirs.
  for (const s of o.services) {
    const node = nodes.get(serviceID(key(s)))!
    if (s.total === 0 && s.routes.length > 0) {
      const backends = [...new Set(s.routes.map((r) => serviceID(r.to)))].map((id) => nodes.get(id)).filter((n): n is Node => !!n)
      node.ready = backends.reduce((n, b) => n + b.ready, 0)
      node.total = backends.reduce((n, b) => n + b.total, 0)
      node.signals = known(node.signals) ? node.signals : through([...links.values()].filter((l) => l.to === node.id && l.kind === 'calls'))
      node.state = worst(ofEndpoints(node.ready, node.total), ofSuccess(node.signals?.success_rate ?? null))
    }
  }
  // Those who only call are as busy as what they call.
  for (const n of nodes.values()) {
    if (n.kind !== 'service') n.sends = through([...links.values()].filter((l) => l.from === n.id))
  }
  const byID = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  return { nodes: [...nodes.values()].sort(byID), links: [...links.values()].sort(byID) }
}

const empty: Signals = {
  rps: null, success_rate: null, latency_ms: { p50: null, p95: null, p99: null }, mutual_tls: null,
  tcp_connections: null, received_bytes_per_second: null, sent_bytes_per_second: null,
}

const known = (s: Signals | null): boolean => s !== null && s.rps !== null

function through(links: Link[]): Signals | null {
  return links.length === 0 ? null : sum(links.map((l) => l.signals))
}

function callerNode(id: string, kind: NodeKind, p: Peer, proxy: Proxy | undefined): Node {
  const state: State = !proxy ? 'idle' : !proxy.connected ? 'bad' : proxy.ready ? 'ok' : 'warn'
  return { id, kind, name: p.name, namespace: p.namespace, signals: null, ready: proxy?.ready ? 1 : 0, total: 1, state, proxies: [{ name: p.name, namespace: p.namespace }], routes: 0 }
}

/** sum joins edges into one: rates add up, shares are weighed by requests, and a
 *  percentile is the largest of them, which the joint one doesn't exceed. */
export function sum(edges: Signals[]): Signals {
  if (edges.length === 1) return edges[0]!
  const add = (get: (s: Signals) => Num): Num => edges.reduce<Num>((n, e) => (get(e) === null ? n : (n ?? 0) + get(e)!), null)
  const weighed = (get: (s: Signals) => Num): Num => {
    let total = 0
    let sum = 0
    for (const e of edges) {
      const v = get(e)
      if (v === null) continue
      const w = e.rps || e.tcp_connections || 1e-9
      total += w
      sum += w * v
    }
    return total > 0 ? sum / total : null
  }
  const most = (get: (s: Signals) => Num): Num => edges.reduce<Num>((n, e) => (get(e) === null ? n : Math.max(n ?? 0, get(e)!)), null)
  return {
    rps: add((e) => e.rps),
    success_rate: weighed((e) => e.success_rate),
    latency_ms: { p50: most((e) => e.latency_ms.p50), p95: most((e) => e.latency_ms.p95), p99: most((e) => e.latency_ms.p99) },
    mutual_tls: weighed((e) => e.mutual_tls),
    tcp_connections: add((e) => e.tcp_connections),
    received_bytes_per_second: add((e) => e.received_bytes_per_second),
    sent_bytes_per_second: add((e) => e.sent_bytes_per_second),
  }
}

/** mostDrawn is how many nodes a picture has: more can't be read, or laid out at once. */
export const mostDrawn = 120

/** focus picks what is drawn of a large mesh: what was searched for with its
 *  neighbours, else what is in trouble and then what is busiest. */
export function focus(g: Graph, found: Set<string> | null): Graph {
  if (g.nodes.length <= mostDrawn) return g
  const keep = new Set<string>()
  const add = (id: string) => keep.size < mostDrawn && keep.add(id)
  if (found) {
    found.forEach(add)
    for (const l of g.links) if (found.has(l.from) || found.has(l.to)) [l.from, l.to].forEach(add)
  } else {
    const trouble: State[] = ['bad', 'warn']
    const rank = (n: Node) => (trouble.includes(n.state) ? trouble.indexOf(n.state) : trouble.length)
    const traffic = (n: Node) => n.signals?.rps ?? n.signals?.tcp_connections ?? 0
    ;[...g.nodes].sort((a, b) => rank(a) - rank(b) || traffic(b) - traffic(a)).forEach((n) => add(n.id))
  }
  return { nodes: g.nodes.filter((n) => keep.has(n.id)), links: g.links.filter((l) => keep.has(l.from) && keep.has(l.to)) }
}

/** shapeOf changes only when the picture must be laid out again. */
export function shapeOf(g: Graph): string {
  return g.nodes.map((n) => n.id).join() + '|' + g.links.map((l) => l.id + l.kind).join()
}
