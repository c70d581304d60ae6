import { useMemo, useState } from 'preact/hooks'
import type { Overview } from '../api'
import { go, useLocation } from '../router'
import { build, focus, type Node } from '../topology/model'
import { Panel } from '../topology/panel'
import { Canvas } from '../topology/view'
import * as Icon from '../ui/icons'
import { unknown } from '../live'
import { Empty, Failed, Mark, SearchBox } from '../ui/parts'

export function Topology({ overview }: { overview: Overview }) {
  const whole = useMemo(() => build(overview), [overview])
  const { query } = useLocation()
  const [filter, setFilter] = useState('')
  const needle = filter.trim().toLowerCase()
  const match = (n: Node) => !needle || `${n.name}.${n.namespace}`.toLowerCase().includes(needle)
  const graph = useMemo(() => focus(whole, needle ? new Set(whole.nodes.filter(match).map((n) => n.id)) : null), [whole, needle])
  const wanted = query.get('select') ?? ''
  const selected = graph.nodes.some((n) => n.id === wanted) || graph.links.some((l) => l.id === wanted) ? wanted : ''
  const select = (id: string) => go(id ? `/?select=${encodeURIComponent(id)}` : '/', true)
  const services = whole.nodes.filter((n) => n.kind === 'service').length
  const calls = whole.links.filter((l) => l.kind === 'calls')
  const plain = calls.filter((l) => l.plaintext).length
  return (
    <div class="topo">
      <header class="topo-head">
        <h1>Topology</h1>
        <span class="sub">{services} {services === 1 ? 'service' : 'services'}, {calls.length} {calls.length === 1 ? 'edge' : 'edges'}{plain > 0 ? `, ${plain} in plaintext` : calls.length > 0 ? ', all mutual TLS' : ''} · last minute{graph !== whole && ` · showing ${graph.nodes.length}, ${needle ? 'found and their neighbours' : 'those in trouble and the busiest'}`}</span>
        <div class="end"><SearchBox value={filter} onChange={setFilter} label="Find a service" /></div>
      </header>
      {graph.nodes.length === 0 && unknown(overview, 'services') ? (
        <div class="page"><Failed what="The services can't be shown" error={unknown(overview, 'services')!} /></div>
      ) : graph.nodes.length === 0 ? (
        <Empty title="No services yet" icon={<Icon.Graph />} code={'tulle run --service hello --port 8080 -- python3 -m http.server 8080\ntulle apply -f mesh.yaml'}>
          Services and the calls between them appear here as soon as they are in the mesh. Start a program with a sidecar beside it, or apply objects from a file.
        </Empty>
      ) : (
        <Canvas graph={graph} selected={selected} select={select} match={match} />
      )}
      {graph.nodes.length > 0 && !selected && (
        <div class="key" aria-label="Legend">
          <span class="t-ok"><Mark state="ok" />99 % and more succeed</span>
          <span class="t-warn"><Mark state="warn" />95 %</span>
          <span class="t-bad"><Mark state="bad" />fewer</span>
          <span class="t-ok"><Icon.Lock />mutual TLS</span>
          <span class="t-warn"><Icon.Unlock />plaintext</span>
        </div>
      )}
      {selected && <Panel graph={graph} selected={selected} select={select} />}
    </div>
  )
}
