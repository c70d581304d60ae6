// Where everything is: dagre places nodes in ranks from left to right, with room
// for the text on each link, and namespaces as boxes around their services.
import { graphlib, layout } from '@dagrejs/dagre'
import type { Graph } from './model'

export const nodeSize = { width: 212, height: 76 }
export const labelSize = { width: 124, height: 36 }

export interface Point { x: number; y: number }
export interface Box extends Point { width: number; height: number }

export interface Layout {
  nodes: Map<string, Point> // centres
  links: Map<string, { points: Point[]; label: Point }>
  clusters: { name: string; box: Box }[] // x, y: the upper left corner
  width: number
  height: number
}

/** place lays the graph out in the direction in which it is larger in a window
 *  of this width and height. */
export function place(g: Graph, width: number, height: number): Layout {
  const across = inDirection(g, 'LR')
  if (scale(across, width, height) >= 0.95) return across
  const down = inDirection(g, 'TB')
  return scale(down, width, height) > scale(across, width, height) * 1.08 ? down : across
}

const scale = (l: Layout, width: number, height: number): number => Math.min(width / l.width, height / l.height)

function inDirection(g: Graph, rankdir: 'LR' | 'TB'): Layout {
  const d = new graphlib.Graph({ multigraph: true, compound: true })
  d.setGraph({ rankdir, nodesep: rankdir === 'LR' ? 26 : 34, edgesep: 18, ranksep: rankdir === 'LR' ? 44 : 40, marginx: 24, marginy: 24 })
  d.setDefaultEdgeLabel(() => ({}))
  const namespaces = [...new Set(g.nodes.map((n) => n.namespace).filter(Boolean))].sort()
  const grouped = namespaces.length > 1
  if (grouped) for (const ns of namespaces) d.setNode(`namespace:${ns}`, {})
  for (const n of g.nodes) {
    d.setNode(n.id, { ...nodeSize })
    if (grouped && n.namespace) d.setParent(n.id, `namespace:${n.namespace}`)
  }
  for (const l of g.links) if (l.from !== l.to) d.setEdge(l.from, l.to, { ...labelSize, labelpos: 'c', weight: l.kind === 'route' ? 3 : 1 }, l.id)
  layout(d)

  const out: Layout = { nodes: new Map(), links: new Map(), clusters: [], width: 0, height: 0 }
  for (const n of g.nodes) {
    const at = d.node(n.id) as unknown as Point
    out.nodes.set(n.id, { x: at.x, y: at.y })
  }
  for (const l of g.links) {
    if (l.from === l.to) continue
    const e = d.edge({ v: l.from, w: l.to, name: l.id }) as unknown as { points: Point[]; x: number; y: number }
    out.links.set(l.id, { points: e.points, label: { x: e.x, y: e.y } })
  }
  if (grouped) {
    for (const ns of namespaces) {
      const c = d.node(`namespace:${ns}`) as unknown as Box
      const head = 14 // room for the name
      out.clusters.push({ name: ns, box: { x: c.x - c.width / 2, y: c.y - c.height / 2 - head, width: c.width, height: c.height + head } })
    }
  }
  const size = d.graph() as unknown as { width: number; height: number }
  out.width = size.width || 1
  out.height = size.height || 1
  return out
}

/** curve draws a smooth line through points. */
export function curve(points: Point[]): string {
  if (points.length < 2) return ''
  const [first, ...rest] = points as [Point, ...Point[]]
  let d = `M${r(first.x)} ${r(first.y)}`
  for (let i = 0; i < rest.length - 1; i++) {
    const a = rest[i]!
    const b = rest[i + 1]!
    const end = i === rest.length - 2 ? b : { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }
    d += `Q${r(a.x)} ${r(a.y)} ${r(end.x)} ${r(end.y)}`
  }
  if (rest.length === 1) d += `L${r(rest[0]!.x)} ${r(rest[0]!.y)}`
  return d
}

/** tip is a small arrowhead at the end of the points. */
export function tip(points: Point[]): string {
  const end = points.at(-1)
  const before = points.at(-2)
  if (!end || !before) return ''
  const angle = Math.atan2(end.y - before.y, end.x - before.x)
  const corner = (turn: number) => `${r(end.x - 9 * Math.cos(angle + turn))} ${r(end.y - 9 * Math.sin(angle + turn))}`
  return `M${r(end.x)} ${r(end.y)}L${corner(0.42)}L${corner(-0.42)}Z`
}

const r = (v: number) => Math.round(v * 10) / 10
