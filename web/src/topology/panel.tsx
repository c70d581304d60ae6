// What is known of the chosen node or link.
import { useEffect, useRef } from 'preact/hooks'
import { proxyPath, servicePath } from '../api'
import * as format from '../format'
import { fine, poor } from '../health'
import * as Icon from '../ui/icons'
import { Mark, MutualTLS, Tile } from '../ui/parts'
import { elsewhereID, type Graph, type Link, type Node } from './model'
import { kinds } from './view'

export function Panel({ graph, selected, select }: { graph: Graph; selected: string; select: (id: string) => void }) {
  const box = useRef<HTMLElement>(null)
  useEffect(() => box.current?.scrollTo(0, 0), [selected])
  const node = graph.nodes.find((n) => n.id === selected)
  const link = graph.links.find((l) => l.id === selected)
  if (!node && !link) return null
  return (
    <aside class="panel" ref={box} aria-label="Details">
      <header>
        <h2>{node ? node.name : <>{name(graph, link!.from)} <span class="quiet">→</span> {name(graph, link!.to)}</>}</h2>
        <button type="button" class="close" aria-label="Close details" title="Close (Esc)" onClick={() => select('')}><Icon.Close /></button>
      </header>
      <div class="content">{node ? <OfNode graph={graph} node={node} select={select} /> : <OfLink graph={graph} link={link!} select={select} />}</div>
    </aside>
  )
}

const name = (g: Graph, id: string) => g.nodes.find((n) => n.id === id)?.name ?? id

function Numbers({ of: s, tcp }: { of: NonNullable<Node['signals']>; tcp: boolean }) {
  if (tcp) {
    return (
      <div class="tiles">
        <Tile what="Connections" of={format.count(s.tcp_connections)} />
        <Tile what="Received" of={format.throughput(s.received_bytes_per_second)} />
        <Tile what="Sent" of={format.throughput(s.sent_bytes_per_second)} />
      </div>
    )
  }
  return (
    <div class="tiles">
      <Tile what="Rate" of={format.rate(s.rps)} />
      <Tile what="Success" of={format.percent(s.success_rate)} state={s.success_rate === null ? 'idle' : s.success_rate >= fine ? 'ok' : s.success_rate >= poor ? 'warn' : 'bad'} />
      <Tile what="p50" of={format.millis(s.latency_ms.p50)} />
      <Tile what="p95" of={format.millis(s.latency_ms.p95)} />
      <Tile what="p99" of={format.millis(s.latency_ms.p99)} />
      <Tile what="Received" of={format.throughput(s.received_bytes_per_second)} />
    </div>
  )
}

function OfNode({ graph, node: n, select }: { graph: Graph; node: Node; select: (id: string) => void }) {
  const callers = graph.links.filter((l) => l.to === n.id)
  const callees = graph.links.filter((l) => l.from === n.id)
  const s = n.signals
  return (
    <>
      <div class="about">
        <span class="quiet">{n.namespace && `${n.namespace} · `}{kinds[n.kind]}</span>
        {s && <MutualTLS of={s.mutual_tls} />}
      </div>
      {n.kind === 'outside' && (
        <div class="note-box">Callers without an identity of this mesh: a browser, a test, a program that was started without <code>tulle run</code>. Only the called service's proxy sees them, and can't tell who they are.</div>
      )}
      {n.kind === 'elsewhere' && n.id !== elsewhereID && (
        <div class="note-box">A place outside this mesh that an egress policy names. <code>tulle get egresspolicies</code></div>
      )}
      {n.id === elsewhereID && (
        <div class="note-box">Addresses that are no service of this mesh. They are called as if there were no mesh: whether with TLS is up to the program.</div>
      )}
      {n.kind === 'service' && n.total > 0 && n.ready < n.total && (
        <div class={`note-box ${n.ready === 0 ? 'bad' : 'warn'}`}><Mark state={n.ready === 0 ? 'bad' : 'warn'} />{n.ready === 0 ? 'No endpoint can be picked: calls fail.' : `${n.total - n.ready} of ${n.total} endpoints can't be picked.`} <code>tulle diagnostics endpoints {n.name}</code></div>
      )}
      {s && (s.rps !== null || (s.tcp_connections ?? 0) > 0) && <Numbers of={s} tcp={s.rps === null} />}
      <Peers title="Called by" links={callers} other={(l) => l.from} graph={graph} select={select} none="Nobody calls it in the last minute." />
      <Peers title="Calls" links={callees} other={(l) => l.to} graph={graph} select={select} none={n.kind === 'outside' || n.kind === 'elsewhere' ? '' : 'It called nobody in the last minute.'} />
      {n.proxies.length > 0 && (
        <div>
          <h3>{n.proxies.length === 1 ? 'Proxy' : 'Proxies'}</h3>
          <ul class="peers">{n.proxies.map((p) => <li><Icon.Shield /><a class="link" href={proxyPath(p)}>{p.name}</a></li>)}</ul>
        </div>
      )}
      {n.kind === 'service' && <a class="button" style={{ justifyContent: 'center' }} href={servicePath(n)}>Open the service's page</a>}
    </>
  )
}

function Peers({ title, links, other, graph, select, none }: { title: string; links: Link[]; other: (l: Link) => string; graph: Graph; select: (id: string) => void; none: string }) {
  if (links.length === 0 && !none) return null
  return (
    <div>
      <h3>{title}</h3>
      {links.length === 0 && <p class="quiet" style={{ fontSize: '13px' }}>{none}</p>}
      <ul class="peers">
        {links.map((l) => (
          <li key={l.id}>
            <span class={`state t-${l.state}`}><Mark state={l.state} /></span>
            <button type="button" onClick={() => select(l.id)} title={`${name(graph, l.from)} to ${name(graph, l.to)}`}>{name(graph, other(l))}</button>
            <span class="figure">
              {l.protocol === 'tcp' ? `${format.text(format.count(l.signals.tcp_connections))} conn` : format.text(format.rate(l.signals.rps))}
            </span>
            <span class={`lock ${l.plaintext ? 't-warn' : 't-ok'}`}>{l.signals.mutual_tls === null ? null : l.plaintext ? <Icon.Unlock title="plaintext" /> : <Icon.Lock title="mutual TLS" />}</span>
          </li>
        ))}
      </ul>
    </div>
  )
}

function OfLink({ graph, link: l, select }: { graph: Graph; link: Link; select: (id: string) => void }) {
  const from = graph.nodes.find((n) => n.id === l.from)
  return (
    <>
      <div class="about quiet">{l.kind === 'route' ? `a route's backend, ${format.text(format.percent(l.share))} of its requests` : l.protocol === 'tcp' ? 'opaque TCP' : 'HTTP requests'}</div>
      {l.signals.mutual_tls !== null && !l.plaintext && (
        <div class="note-box ok"><Icon.Lock />Mutual TLS: both ends proved who they are, everything between them is encrypted.</div>
      )}
      {l.plaintext && (
        <div class="note-box warn">
          <Icon.Unlock />
          {from?.kind === 'gateway' || from?.kind === 'outside'
            ? 'Plaintext: what comes from outside the mesh has no identity here. Anyone on the way can read it.'
            : `${format.share(1 - (l.signals.mutual_tls ?? 0))} of this traffic is plaintext: one end has no proxy, or its proxy was left out.`}
        </div>
      )}
      {l.kind === 'route' && (
        <p class="quiet" style={{ fontSize: '13px' }}>
          {l.signals.rps === null ? 'Calls are counted by the backend that was picked: see the edges from the callers.' : `The numbers are all that ${name(graph, l.to)} is asked, by this route or directly.`}
        </p>
      )}
      {(l.kind === 'calls' || l.signals.rps !== null) && <Numbers of={l.signals} tcp={l.protocol === 'tcp'} />}
      <div>
        <h3>Ends</h3>
        <ul class="peers">
          {[l.from, l.to].map((id) => {
            const n = graph.nodes.find((x) => x.id === id)
            return n && <li key={id}><span class={`state t-${n.state}`}><Mark state={n.state} /></span><button type="button" onClick={() => select(id)}>{n.name}</button><span class="figure">{kinds[n.kind]}</span></li>
          })}
        </ul>
      </div>
    </>
  )
}
