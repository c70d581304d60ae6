// What the control plane's dashboard API says. Names are as in the Go types
// (internal/dashboard, internal/control/api/client, internal/telemetry).

export type Num = number | null

export interface Latency { p50: Num; p95: Num; p99: Num }

export interface Signals {
  rps: Num
  success_rate: Num
  latency_ms: Latency
  mutual_tls: Num
  tcp_connections: Num
  received_bytes_per_second: Num
  sent_bytes_per_second: Num
}

export interface ServiceStat extends Signals {
  name: string
  namespace: string
  meshed: { ready: number; total: number }
}

export interface Peer { name: string; namespace: string }

export interface EdgeStat extends Signals {
  from: Peer
  to: Peer
  protocol: 'http' | 'tcp'
}

export interface Split { route: string; rule: number; match: string; to: string; weight: number }

export interface Service {
  name: string
  namespace: string
  ports: { name: string; port: number; protocol: string }[]
  addresses: string[]
  workloads: string[]
  ready: number
  total: number
  routes: Split[]
}

export interface Proxy {
  name: string
  namespace: string
  role: string
  identity: string
  version: string
  uid: string
  pid: number
  mode: string
  zone?: string
  admin?: string
  connected: boolean
  since: string
  ready: boolean
  draining: boolean
  detail?: string
  certificateExpires?: string
  sent: number
  acknowledged: number
  rejected?: string
  subscriptions: number
}

export interface MeshStatus {
  version: string
  started: string
  pid: number
  dataDir: string
  trustDomain: string
  clusterDomain: string
  snapshot: number
  listen: string
  dashboard: string
  store: { kind: string; bytes: number; quota: number; error?: string }
  proxies: number
  services: number
  workloads: number
  rootPin: string
}

export type Result = 'success' | 'warning' | 'error'

export interface Overview {
  at: number
  status: MeshStatus | null
  check: { result: Result; total: number; errors: number; warnings: number } | null
  stat: { window: string; services: ServiceStat[] } | null
  edges: { window: string; edges: EdgeStat[] } | null
  services: Service[]
  proxies: Proxy[]
  problems: string[]
}

export interface Endpoint {
  address: string
  identity?: string
  workload?: string
  zone?: string
  weight: number
  health: string
}

export interface Endpoints {
  service: string
  addresses: string[]
  ports: { port: number; endpoints: Endpoint[] }[]
}

export interface ProxyDetail { proxy: Proxy; dump?: unknown; problem?: string }

export interface CheckAnswer {
  status: MeshStatus
  report: { result: Result; checks: { category: string; description: string; result: Result; error?: string; hint?: string }[] }
}

export interface Series {
  times: number[]
  lines: { name: string; values: Num[] }[]
}

/** Me is who looks. */
export interface Me { name: string; how: string; role: string; namespaces: string[]; session: boolean }

/** signedOut are told when the control plane wants to know who asks, and why. */
export const signedOut = new Set<(why: string) => void>()

/** ask gets one answer of the API; the error's message is the control plane's. */
export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  let response: Response
  try {
    response = await fetch(path, { signal, headers: { accept: 'application/json' } })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Error('The control plane does not answer. Is it still running?')
  }
  const body = await response.json().catch(() => ({ error: `${response.status} ${response.statusText}` }))
  if (response.status === 401) signedOut.forEach((f) => f(body.error ?? ''))
  if (!response.ok) throw new Error(body.error ?? `${response.status} ${response.statusText}`)
  return body as T
}

/** chart is the address of a chart's lines. */
export function chart(subject: string, name: string, of?: Peer, range?: string): string {
  const q = new URLSearchParams({ subject, chart: name })
  if (of) {
    q.set('namespace', of.namespace)
    q.set('name', of.name)
  }
  if (range) q.set('range', range)
  return `/api/chart?${q}`
}

export const key = (p: Peer): string => `${p.name}.${p.namespace}`
export const servicePath = (p: Peer): string => `/services/${encodeURIComponent(p.namespace)}/${encodeURIComponent(p.name)}`
export const proxyPath = (p: Peer): string => `/proxies/${encodeURIComponent(p.namespace)}/${encodeURIComponent(p.name)}`

/** peer reads "cart.default". */
export function peer(s: string): Peer {
  const dot = s.indexOf('.')
  return dot < 0 ? { name: s, namespace: '' } : { name: s.slice(0, dot), namespace: s.slice(dot + 1) }
}
