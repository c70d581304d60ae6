// A table that can be sorted by its columns. The order is kept while numbers change.
import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { Up } from './icons'

export interface Column<T> {
  title: string
  cell: (row: T) => ComponentChildren
  /** What to sort by; null comes last. A column without isn't sorted by. */
  by?: (row: T) => string | number | null
  number?: boolean
  wrap?: boolean
}

/** compare orders values of one kind; null is after everything. */
export function compare(a: string | number | null, b: string | number | null, descending: boolean): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1
  const c = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true })
  return descending ? -c : c
}

export function Table<T>({ rows, columns, id, label, first = 0 }: { rows: T[]; columns: Column<T>[]; id: (row: T) => string; label: string; first?: number }) {
  const [sort, set] = useState({ column: first, descending: !!columns[first]?.number })
  const by = columns[sort.column]?.by
  const sorted = by ? [...rows].sort((a, b) => compare(by(a), by(b), sort.descending) || compare(id(a), id(b), false)) : rows
  const turn = (column: number) =>
    set((old) => ({ column, descending: old.column === column ? !old.descending : !!columns[column]?.number }))
  return (
    <div class="table" tabindex={-1}>
      <table>
        <caption class="sr">{label}</caption>
        <thead>
          <tr>
            {columns.map((c, i) => (
              <th scope="col" class={c.number ? 'n' : ''} aria-sort={sort.column === i && c.by ? (sort.descending ? 'descending' : 'ascending') : undefined}>
                {c.by ? <button type="button" onClick={() => turn(i)}>{c.title}<Up /></button> : c.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((row) => (
            <tr key={id(row)}>{columns.map((c) => <td class={c.number ? 'n' : c.wrap ? 'wrap' : ''}>{c.cell(row)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
