// The drawing: pan with the pointer, zoom with the wheel or the buttons, reach
// every node and link with the keyboard.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks'
import * as format from '../format'
import * as Icon from '../ui/icons'
import { Mark } from '../ui/parts'
import { curve, labelSize, type Layout, nodeSize, place, tip } from './layout'
import { type Graph, type Link, type Node, shapeOf } from './model'

interface View { x: number; y: number; scale: number }

const least = 0.2
const most = 2.5
const margin = 28
const panel = 368
const foot = 64 // the legend's and the buttons' room

function fit(l: Layout, width: number, height: number): View {
  const room = Math.max(200, width)
  const tall = height - foot
  const all = Math.min((room - 2 * margin) / l.width, (tall - margin) / l.height)
  // On a phone the text must be readable first; the rest is a drag away.
  const scale = Math.min(1.15, Math.max(width < 700 ? 0.56 : least, all))
  return { scale, x: Math.max(margin / 2, (room - l.width * scale) / 2), y: Math.max(4, (tall - l.height * scale) / 2) }
}

export function Canvas({ graph, selected, select, match }: { graph: Graph; selected: string; select: (id: string) => void; match: (n: Node) => boolean }) {
  const shape = shapeOf(graph)
  const svg = useRef<SVGSVGElement>(null)
  const [size, setSize] = useState({ width: 1200, height: 800 })
  const layout = useMemo(() => place(graph, size.width, size.height), [shape, size])
  const [view, setView] = useState<View>({ x: 0, y: 0, scale: 1 })
  const moved = useRef(false)
  const drag = useRef<{ x: number; y: number; far: boolean } | null>(null)

  const fitNow = () => {
    const box = svg.current?.getBoundingClientRect()
    if (box) setView(fit(layout, box.width, box.height))
  }
  useLayoutEffect(() => {
    if (!moved.current) fitNow()
  }, [layout])
  const measure = () => {
    const box = svg.current?.getBoundingClientRect()
    if (!box || box.width === 0) return
    // In steps, so that a window being dragged doesn't lay out at every pixel.
    const step = (v: number) => Math.max(200, Math.round(v / 100) * 100)
    setSize((old) => (old.width === step(box.width) && old.height === step(box.height) ? old : { width: step(box.width), height: step(box.height) }))
  }
  useLayoutEffect(measure, [])
  useEffect(() => {
    const follow = new ResizeObserver(() => {
      measure()
      if (!moved.current) fitNow()
    })
    if (svg.current) follow.observe(svg.current)
    return () => follow.disconnect()
  }, [layout])
  const near = useMemo(() => {
    if (!selected) return null
    const ids = new Set([selected])
    for (const l of graph.links) {
      if (l.from === selected || l.to === selected) [l.id, l.from, l.to].forEach((id) => ids.add(id))
      if (l.id === selected) [l.from, l.to].forEach((id) => ids.add(id))
    }
    return ids
  }, [shape, selected])
  // What is chosen, and where there is room its neighbours, must not lie under the panel.
  useEffect(() => {
    const box = svg.current?.getBoundingClientRect()
    const at = layout.nodes.get(selected) ?? layout.links.get(selected)?.label
    if (!box || !at) return
    setView((v) => {
      const x = at.x * v.scale + v.x
      const y = at.y * v.scale + v.y
      const half = (nodeSize.width / 2) * v.scale + 16
      const right = box.width > 700 ? box.width - panel - half : box.width - half
      const bottom = box.width > 700 ? box.height - half : box.height * 0.34
      const farthest = Math.max(x, ...[...(near ?? [])].map((id) => (layout.nodes.get(id)?.x ?? -Infinity) * v.scale + v.x))
      const dx = farthest > right ? Math.max(right - farthest, Math.min(0, half - x), x > right ? right - x : -Infinity) : x < half ? half - x : 0
      const dy = y > bottom ? bottom - y : y < 40 ? 40 - y : 0
      return dx || dy ? { ...v, x: v.x + dx, y: v.y + dy } : v
    })
  }, [selected, layout])

  const zoom = (by: number, at?: { x: number; y: number }) => {
    moved.current = true
    setView((v) => {
      const box = svg.current!.getBoundingClientRect()
      const x = at ? at.x - box.left : box.width / 2
      const y = at ? at.y - box.top : box.height / 2
      const scale = Math.min(most, Math.max(least, v.scale * by))
      return { scale, x: x - ((x - v.x) * scale) / v.scale, y: y - ((y - v.y) * scale) / v.scale }
    })
  }
  useEffect(() => {
    const wheel = (event: WheelEvent) => {
      event.preventDefault()
      zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), { x: event.clientX, y: event.clientY })
    }
    svg.current?.addEventListener('wheel', wheel, { passive: false })
    return () => svg.current?.removeEventListener('wheel', wheel)
  }, [])
  const refit = () => {
    moved.current = false
    fitNow()
  }
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if ((event.target as Element).tagName === 'INPUT' || event.ctrlKey || event.metaKey || event.altKey) return
      if (event.key === '+' || event.key === '=') zoom(1.2)
      else if (event.key === '-') zoom(1 / 1.2)
      else if (event.key === '0') refit()
      else if (event.key === 'Escape') select('')
    }
    addEventListener('keydown', key)
    return () => removeEventListener('keydown', key)
  }, [layout, selected])

  const found = new Set(graph.nodes.filter(match).map((n) => n.id))
  const faded = (id: string) => (near !== null && !near.has(id)) || (found.size < graph.nodes.length && !id.split('>').every((part) => found.has(part)))

  return (
    <div class="canvas">
      <svg
        ref={svg}
        role="group"
        aria-label="Services and the calls between them"
        onPointerDown={(e) => {
          drag.current = { x: e.clientX, y: e.clientY, far: false }
        }}
        onPointerMove={(e) => {
          const d = drag.current
          if (!d || e.buttons === 0) return
          if (!d.far && Math.hypot(e.clientX - d.x, e.clientY - d.y) < 4) return
          if (!d.far) e.currentTarget.setPointerCapture(e.pointerId)
          d.far = moved.current = true
          const dx = e.clientX - d.x
          const dy = e.clientY - d.y
          d.x = e.clientX
          d.y = e.clientY
          setView((v) => ({ ...v, x: v.x + dx, y: v.y + dy }))
        }}
        onClick={(e) => {
          if (!drag.current?.far && !(e.target as Element).closest('.node, .edge')) select('')
        }}
      >
        <g transform={`translate(${view.x} ${view.y}) scale(${view.scale})`}>
          {layout.clusters.map((c) => (
            <g class="cluster" key={c.name}>
              <rect x={c.box.x} y={c.box.y} width={c.box.width} height={c.box.height} rx="14" />
              <text x={c.box.x + 14} y={c.box.y + 20}>{c.name}</text>
            </g>
          ))}
          {graph.links.map((l) => {
            const at = layout.links.get(l.id)
            return at && <Wire key={l.id} link={l} at={at} selected={l.id === selected} faded={faded(l.id)} select={select} graph={graph} />
          })}
          {graph.nodes.map((n) => {
            const at = layout.nodes.get(n.id)
            return at && <Body key={n.id} node={n} x={at.x} y={at.y} selected={n.id === selected} faded={faded(n.id)} select={select} />
          })}
        </g>
      </svg>
      <div class="zoom" role="group" aria-label="Zoom">
        <button type="button" title="Zoom in (+)" aria-label="Zoom in" onClick={() => zoom(1.25)}><Icon.Plus /></button>
        <button type="button" title="Zoom out (−)" aria-label="Zoom out" onClick={() => zoom(0.8)}><Icon.Minus /></button>
        <button type="button" title="Fit all (0)" aria-label="Fit all" onClick={refit}><Icon.Fit /></button>
      </div>
    </div>
  )
}

const press = (act: () => void) => (event: KeyboardEvent) => {
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault()
    act()
  }
}

const glyphs = { service: Icon.Box, gateway: Icon.Gate, workload: Icon.Person, outside: Icon.Cloud, elsewhere: Icon.Cloud }
export const kinds = { service: 'service', gateway: 'gateway', workload: 'workload, calls only', outside: 'not in the mesh', elsewhere: 'outside the mesh' }

function Body({ node: n, x, y, selected, faded, select }: { node: Node; x: number; y: number; selected: boolean; faded: boolean; select: (id: string) => void }) {
  const { width, height } = nodeSize
  const Glyph = glyphs[n.kind]
  const s = n.signals
  const rate = format.rate(s?.rps ?? null)
  const success = format.percent(s?.success_rate ?? null)
  const p99 = format.millis(s?.latency_ms.p99 ?? null)
  const label = [n.name, kinds[n.kind], s && s.rps !== null ? `${format.text(rate)}, success ${format.text(success)}, p99 ${format.text(p99)}` : '', n.total > 0 ? `${n.ready} of ${n.total} ready` : ''].filter(Boolean).join(', ')
  const name = named(n.name, width - 36 - (n.kind === 'service' && n.routes === 0 && (n.total > 1 || n.ready < n.total) ? 62 : 34))
  const counted = n.kind === 'service' && n.routes === 0 && (n.total > 1 || n.ready < n.total)
  return (
    <g class={`node ${n.state} ${selected ? 'selected' : ''} ${faded ? 'faded' : ''}`} transform={`translate(${x - width / 2} ${y - height / 2})`} tabindex={0} role="button" aria-label={label} aria-pressed={selected} onClick={() => select(n.id)} onKeyDown={press(() => select(n.id))} data-id={n.id}>
      <rect class="box" width={width} height={height} rx="10" />
      <svg class="glyph" x="14" y="13" width="15" height="15" viewBox="0 0 16 16"><Glyph /></svg>
      <text class="name" x="36" y="25" style={{ fontSize: `${name.size}px` }}>{name.words}</text>
      <svg class="mark" x={width - 28} y="14" width="14" height="14" viewBox="0 0 16 16"><Mark state={n.state} /></svg>
      {counted && <text class="ready" x={width - 34} y="25" text-anchor="end">{n.ready}/{n.total}</text>}
      <Figures node={n} />
    </g>
  )
}

function Figures({ node: n }: { node: Node }) {
  const s = n.signals
  if (!s || (s.rps === null && !s.tcp_connections)) {
    const words = n.kind === 'service' ? (n.routes > 0 ? `routes to ${n.routes} backends` : n.total === 0 ? 'no endpoints' : 'no traffic') : kinds[n.kind]
    return <text class="figures" x="15" y="53">{words}{n.sends?.rps != null && ` · ${format.text(format.rate(n.sends.rps))}`}</text>
  }
  if (s.rps === null) {
    const flow = (s.received_bytes_per_second ?? 0) + (s.sent_bytes_per_second ?? 0)
    return (
      <>
        <Cell x={15} of={format.count(s.tcp_connections)} what={s.tcp_connections === 1 ? 'connection' : 'connections'} />
        <Cell x={104} of={format.throughput(flow)} what="both ways" />
      </>
    )
  }
  return (
    <>
      <Cell x={15} of={format.rate(s.rps)} what="rate" />
      <Cell x={82} of={format.percent(s.success_rate)} what="success" class="rate" />
      <Cell x={150} of={format.millis(s.latency_ms.p99)} what="p99" />
    </>
  )
}

function Cell({ x, of, what, class: c = '' }: { x: number; of: format.Figure; what: string; class?: string }) {
  return (
    <>
      <text class={`figures ${c}`} x={x} y="48">{of.value}<tspan class="unit" dx="2">{of.unit}</tspan></text>
      <text class="unit" x={x} y="63" fill="currentColor">{what}</text>
    </>
  )
}

function Wire({ link: l, at, selected, faded, select, graph }: { link: Link; at: { points: { x: number; y: number }[]; label: { x: number; y: number } }; selected: boolean; faded: boolean; select: (id: string) => void; graph: Graph }) {
  const d = curve(at.points)
  const s = l.signals
  const busy = (s.rps ?? 0) > 0 || (s.tcp_connections ?? 0) > 0
  const shared = l.kind === 'route' ? `${format.text(format.short(format.percent(l.share)))} of route` : ''
  const first = l.kind === 'route' && l.signals.rps === null ? (l.match || 'route') : l.protocol === 'tcp' ? `${format.text(format.count(s.tcp_connections))} conn` : format.text(format.rate(s.rps))
  const success = format.text(format.short(format.percent(s.success_rate)))
  const rest =
    l.kind === 'route' ? shared
    : l.protocol === 'tcp' ? format.text(format.short(format.throughput((s.received_bytes_per_second ?? 0) + (s.sent_bytes_per_second ?? 0))))
    : `· ${format.text(format.short(format.millis(s.latency_ms.p99)))}`
  const two = l.kind === 'calls' && l.protocol === 'http'
  const { height } = labelSize
  const left = s.mutual_tls === null ? 11 : 26
  const width = left + 11 + Math.max(measureText(first, '550 11px'), measureText(two ? `${success} ${rest}` : rest, '11px'))
  const name = (id: string) => graph.nodes.find((n) => n.id === id)?.name ?? id
  const tls = s.mutual_tls === null ? '' : l.plaintext ? ', plaintext' : ', mutual TLS'
  return (
    <g class={`edge ${l.kind} ${l.state} ${l.plaintext ? 'plain' : ''} ${selected ? 'selected' : ''} ${faded ? 'faded' : ''}`} tabindex={0} role="button" aria-label={`${name(l.from)} to ${name(l.to)}, ${first}${tls}`} aria-pressed={selected} onClick={() => select(l.id)} onKeyDown={press(() => select(l.id))} data-id={l.id}>
      <path class="hit" d={d} />
      <path class="wire" d={d} stroke-width={weight(s.rps ?? s.tcp_connections ?? 0)} />
      {busy && <path class="flow" d={d} stroke-width={weight(s.rps ?? 0) + 1.4} />}
      <path class="tip" d={tip(at.points)} />
      <g transform={`translate(${at.label.x - width / 2} ${at.label.y - height / 2})`}>
        <rect class="pill" width={width} height={height} rx="8" />
        {s.mutual_tls !== null && (
          <svg class="lockmark" x="7" y={height / 2 - 6.5} width="13" height="13" viewBox="0 0 16 16">{l.plaintext ? <Icon.Unlock title="plaintext" /> : <Icon.Lock title="mutual TLS" />}</svg>
        )}
        <text class="first" x={left} y="15">{first}</text>
        <text x={left} y="28">{two && <tspan class="rate">{success}</tspan>}<tspan dx={two ? 3 : 0}>{rest}</tspan></text>
      </g>
    </g>
  )
}

/** weight is a line's width: a little more for ten times the traffic. */
const weight = (v: number) => 1.2 + Math.min(3, Math.log10(1 + v) * 0.8)

const pen = document.createElement('canvas').getContext('2d')
const widths = new Map<string, number>()

/** measureText is how wide words are in a font of the pages. */
function measureText(words: string, font: string): number {
  const k = font + words
  let width = widths.get(k)
  if (width === undefined) {
    if (pen) pen.font = `${font} ${getComputedStyle(document.body).fontFamily}`
    width = pen?.measureText(words).width ?? words.length * 7
    if (widths.size > 5000) widths.clear()
    widths.set(k, width)
  }
  return width
}

/** named fits a name into a node: smaller if need be, shortened if it must. */
function named(words: string, room: number): { words: string; size: number } {
  for (const size of [13.5, 12.5, 11.5]) if (measureText(words, `600 ${size}px`) <= room) return { words, size }
  return { words: clip(words, room, '600 12.5px'), size: 12.5 }
}

/** clip shortens words to a width. */
function clip(words: string, room: number, font: string): string {
  // An ending such as -v2 stays: it tells one from the other.
  const end = /[-.]?[a-z]?\d+$/.exec(words)?.[0] ?? ''
  let n = words.length - end.length - 1
  while (n > 1 && measureText(words.slice(0, n) + '…' + end, font) > room) n--
  return words.slice(0, n) + '…' + end
}
