// A chart of lines over time: uPlot draws it, the legend beside it is ours.
import { useEffect, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import type { Num, Peer, Series } from '../api'
import { chart } from '../api'
import { type Figure, text, tick } from '../format'
import { useAnswer } from '../live'
import { Card } from './parts'

export interface LineStyle {
  /** A custom property of styles/tokens.css. */
  color: string
  label: string
  dash?: number[]
  fill?: boolean
}

interface Props {
  title: string
  sub?: string
  subject: string
  of: Peer
  chart: string
  range: string
  lines: Record<string, LineStyle>
  format: (v: Num) => Figure
  /** The least top of the scale, so that noise near zero stays small. */
  least?: number
  /** A scale from here on instead of from zero. */
  bottom?: number
  top?: number
  none: string
}

const sync = uPlot.sync('tulle')

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim()
}

/** leastSpan is the shortest time that a chart shows, in seconds. */
const leastSpan = 120

/** seen is the time that a chart shows: all that was asked for, or from shortly
 *  before the first value on when there is none earlier. */
export function seen(data: uPlot.AlignedData): [number, number] {
  const times = data[0]
  const start = times[0] ?? 0
  const end = times.at(-1) ?? 1
  const first = times.findIndex((_t, i) => data.some((line, k) => k > 0 && line[i] != null))
  if (first <= 0) return [start, end]
  return [Math.max(start, Math.min(times[first]! - (end - times[first]!) * 0.05, end - leastSpan)), end]
}

function clock(seconds: number, withSeconds: boolean): string {
  return new Date(seconds * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', second: withSeconds ? '2-digit' : undefined })
}

function options(p: Props, series: Series, width: number, height: number, hover: (i: number | null) => void): uPlot.Options {
  const grid = { stroke: color('--line'), width: 1 }
  const font = `11px ${color('--sans')}`
  return {
    width,
    height,
    padding: [10, 14, 0, 0],
    cursor: { sync: { key: sync.key, setSeries: false }, points: { size: 6 }, drag: { x: false, y: false }, y: false },
    legend: { show: false },
    scales: {
      x: { time: true, range: (u) => seen(u.data) },
      y: { range: (_u, _min, max) => [p.bottom ?? 0, p.top ?? Math.max(p.least ?? 0, (max ?? 0) * 1.12, 1e-9)] },
    },
    axes: [
      { stroke: color('--text-3'), font, grid: { show: false }, ticks: { ...grid, size: 4 }, gap: 4, size: 28, space: 76, values: (u, at) => at.map((s) => clock(s, u.scales.x!.max! - u.scales.x!.min! < 300)) },
      { stroke: color('--text-3'), font, grid, ticks: { show: false }, gap: 6, size: 62, space: 34, values: (_u, at) => at.map((v) => tick(p.format(v))) },
    ],
    series: [
      {},
      ...series.lines.map((l) => {
        const style = p.lines[l.name] ?? { color: '--series-1', label: l.name }
        const stroke = color(style.color)
        return { stroke, width: 1.6, dash: style.dash, fill: style.fill ? stroke + '22' : undefined, points: { show: false }, spanGaps: false }
      }),
    ],
    hooks: { setCursor: [(u) => hover(u.cursor.idx ?? null)] },
  }
}

export function Chart(p: Props) {
  const { data, error } = useAnswer<Series>(chart(p.subject, p.chart, p.of, p.range), 5000)
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<{ u: uPlot; shape: string } | null>(null)
  const [at, setAt] = useState<number | null>(null)
  const [theme, setTheme] = useState(0)

  useEffect(() => {
    const again = () => setTheme((n) => n + 1)
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    scheme.addEventListener('change', again)
    addEventListener('tulle-theme', again)
    return () => {
      scheme.removeEventListener('change', again)
      removeEventListener('tulle-theme', again)
    }
  }, [])

  useEffect(() => {
    const element = box.current
    if (!element || !data || data.lines.length === 0) return
    const values = [data.times, ...data.lines.map((l) => l.values)] as uPlot.AlignedData
    // A new theme, range or set of lines makes a new plot; new values do not.
    const shape = [theme, p.range, p.chart, ...data.lines.map((l) => l.name)].join()
    if (plot.current?.shape === shape) {
      plot.current.u.setData(values)
      return
    }
    plot.current?.u.destroy()
    const u = new uPlot(options(p, data, element.clientWidth, element.clientHeight, setAt), values, element)
    plot.current = { u, shape }
  }, [data, theme])

  useEffect(() => {
    const element = box.current
    if (!element) return
    const follow = new ResizeObserver(() => plot.current?.u.setSize({ width: element.clientWidth, height: element.clientHeight }))
    follow.observe(element)
    return () => {
      follow.disconnect()
      plot.current?.u.destroy()
      plot.current = null
    }
  }, [])

  const index = at ?? latest(data)
  const anything = data?.lines.some((l) => l.values.some((v) => v !== null))
  return (
    <Card title={p.title} sub={at !== null && data ? clock(data.times[at] ?? 0, true) : p.sub}>
      <div class="legend">
        {data?.lines.map((l) => {
          const style = p.lines[l.name] ?? { color: '--series-1', label: l.name }
          return <span key={l.name}><i style={{ color: `var(${style.color})` }} />{style.label}<b>{text(p.format(index === null ? null : l.values[index] ?? null))}</b></span>
        })}
      </div>
      <div class="chart">
        <div class="plot" ref={box} role="img" aria-label={`${p.title}, the last ${p.range}`}>
          {(error || (data && !anything)) && <div class="none">{error ?? p.none}</div>}
        </div>
      </div>
    </Card>
  )
}

/** latest is the newest moment at which any line has a value. */
function latest(data: Series | null): number | null {
  if (!data) return null
  for (let i = data.times.length - 1; i >= 0; i--) if (data.lines.some((l) => l.values[i] != null)) return i
  return null
}
