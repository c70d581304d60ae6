// Numbers as people read them: a figure and its unit, apart. What nobody knows
// is a dash, never a zero.
import type { Num } from './api'

export interface Figure { value: string; unit: string }

const none: Figure = { value: '–', unit: '' }

/** figure keeps about three digits: 0.12, 1.23, 12.3, 123. */
function digits(v: number): string {
  const abs = Math.abs(v)
  if (abs === 0) return '0'
  if (abs < 0.01) return '<0.01'
  if (abs < 1) return v.toFixed(2)
  if (abs < 9.995) return v.toFixed(2)
  if (abs < 99.95) return v.toFixed(1)
  return v.toFixed(0)
}

function scaled(v: number, units: string[], factor: number): Figure {
  let i = 0
  while (Math.abs(v) >= factor * 0.9995 && i < units.length - 1) {
    v /= factor
    i++
  }
  return { value: digits(v), unit: units[i]! }
}

/** rate is requests per second. */
export function rate(v: Num): Figure {
  if (v === null) return none
  const f = scaled(v, ['', 'k', 'M'], 1000)
  return { value: f.value + f.unit, unit: 'rps' }
}

/** percent never rounds up to 100: 99.999 % with failures is 99.99. */
export function percent(v: Num): Figure {
  if (v === null) return none
  const p = v * 100
  if (p >= 100) return { value: '100', unit: '%' }
  const places = p >= 99 ? 2 : 1
  const scale = 10 ** places
  return { value: (Math.floor(p * scale + 1e-9) / scale).toFixed(places), unit: '%' }
}

/** millis is a latency. */
export function millis(v: Num): Figure {
  if (v === null) return none
  if (v >= 999.5) return { value: digits(v / 1000), unit: 's' }
  if (v < 0.01 && v > 0) return { value: '<0.01', unit: 'ms' }
  return { value: digits(v), unit: 'ms' }
}

/** short is a figure with two digits or so, where there is little room. */
export function short(f: Figure): Figure {
  const v = Number(f.value)
  if (Number.isNaN(v) || f.value === '100') return f
  const places = f.unit === '%' ? 1 : Math.abs(v) < 10 ? 1 : 0
  const scale = 10 ** places
  const cut = f.unit === '%' ? Math.floor(v * scale + 1e-9) / scale : v
  return { value: cut.toFixed(places).replace(/\.0$/, ''), unit: f.unit }
}

/** tick is a figure on an axis: "40 rps", not "40.0 rps". */
export function tick(f: Figure): string {
  return text({ value: f.value.replace(/(\.\d*?)0+(k|M|)$/, '$1$2').replace(/\.(k|M|)$/, '$1'), unit: f.unit })
}

/** bytes is an amount, in powers of 1000. */
export function bytes(v: Num): Figure {
  if (v === null) return none
  if (v > 0 && v < 1) return { value: '<1', unit: 'B' }
  const f = scaled(v, ['B', 'kB', 'MB', 'GB', 'TB'], 1000)
  return f.unit === 'B' ? { value: v.toFixed(0), unit: 'B' } : f
}

/** throughput is bytes per second. */
export function throughput(v: Num): Figure {
  const f = bytes(v)
  return v === null ? f : { value: f.value, unit: f.unit + '/s' }
}

/** count is a whole number. */
export function count(v: Num): Figure {
  return v === null ? none : { value: Math.round(v).toLocaleString('en'), unit: '' }
}

/** cores is CPU time per time. */
export function cores(v: Num): Figure {
  return v === null ? none : { value: (v * 100).toFixed(v < 0.1 ? 2 : 1), unit: '% of a core' }
}

/** span is a length of time in words, from seconds: "3 h 12 min". */
export function span(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds))
  if (s < 60) return `${s} s`
  const m = Math.floor(s / 60)
  if (m < 60) return s % 60 && m < 5 ? `${m} min ${s % 60} s` : `${m} min`
  const h = Math.floor(m / 60)
  if (h < 48) return m % 60 ? `${h} h ${m % 60} min` : `${h} h`
  return `${Math.floor(h / 24)} d${h % 24 ? ` ${h % 24} h` : ''}`
}

/** text joins a figure and its unit, for labels and titles. */
export function text(f: Figure): string {
  if (!f.unit) return f.value
  return `${f.value}\u00a0${f.unit}`
}

/** share is a part of a whole in words: "all", "none", "12.5 %". */
export function share(v: Num): string {
  if (v === null) return '–'
  if (v >= 1) return 'all'
  if (v <= 0) return 'none'
  return text(percent(v))
}
