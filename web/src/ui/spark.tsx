// A line without axes: how a number went lately.
import type { Num } from '../api'

const width = 112
const height = 26

/** path draws values from left to right; gaps stay gaps. */
export function path(values: Num[], top: number): string {
  let d = ''
  let pen = false
  values.forEach((v, i) => {
    if (v === null) {
      pen = false
      return
    }
    const x = values.length > 1 ? (i / (values.length - 1)) * width : width
    const y = height - 2 - (top > 0 ? v / top : 0) * (height - 5)
    d += `${pen ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`
    pen = true
  })
  return d
}

export function Spark({ values, label }: { values: Num[] | undefined; label: string }) {
  const known = values?.filter((v): v is number => v !== null) ?? []
  if (!values || known.length < 2) return <svg class="spark" viewBox={`0 0 ${width} ${height}`} aria-hidden="true"><line x1="0" x2={width} y1={height - 2} y2={height - 2} /></svg>
  const line = path(values.slice(values.findIndex((v) => v !== null)), Math.max(...known))
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={line} />
    </svg>
  )
}
