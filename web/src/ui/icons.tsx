// Small drawings, 16 × 16, in the colour of the text around them.
import type { JSX } from 'preact'

type Props = { title?: string }

function icon(children: JSX.Element, filled = false) {
  return ({ title }: Props) => (
    <svg width="14" height="14" viewBox="0 0 16 16" fill={filled ? 'currentColor' : 'none'} stroke={filled ? 'none' : 'currentColor'} stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" role={title ? 'img' : undefined} aria-hidden={title ? undefined : 'true'}>
      {title && <title>{title}</title>}
      {children}
    </svg>
  )
}

export const Net = icon(<g stroke-width="1.15"><path d="M8 1l3 1.700v3.500L8 8 5 6.200V2.700z" /><path d="M5 6.200L8 8v3.500L5 13.200l-3-1.700V8z" opacity=".75" /><path d="M11 6.200L14 8v3.500l-3 1.7-3-1.700V8z" opacity=".5" /></g>)
export const Graph = icon(<><circle cx="3.5" cy="8" r="2" /><circle cx="12.5" cy="3.5" r="2" /><circle cx="12.5" cy="12.5" r="2" /><path d="M5.3 7.100l5.4-2.700M5.3 8.900l5.4 2.7" /></>)
export const Box = icon(<path d="M8 1.700l5.6 3.100v6.400L8 14.300l-5.6-3.100V4.800zM2.6 4.900L8 8l5.4-3.100M8 8v6.2" />)
export const Shield = icon(<path d="M8 1.600l5 1.900v4c0 3.2-2.1 5.6-5 6.9-2.9-1.3-5-3.7-5-6.900v-4z" />)
export const Heart = icon(<path d="M1.5 8h3l1.7-4.5 3 9L11 8h3.5" />)
export const Gate = icon(<path d="M2 14V6.500a6 6 0 0112 0V14M6 14V8a2 2 0 014 0v6M1 14h14" />)
export const Person = icon(<><circle cx="8" cy="5" r="2.8" /><path d="M2.5 14c.6-3 2.8-4.5 5.5-4.500s4.9 1.5 5.5 4.5" /></>)
export const Cloud = icon(<path d="M4.5 12.500a3 3 0 01-.3-6 4 4 0 017.7-.2 3.1 3.1 0 01-.2 6.200z" />)
export const Lock = icon(<><rect x="3" y="7" width="10" height="7" rx="1.6" /><path d="M5.3 7V4.800a2.7 2.7 0 015.4 0V7" /></>)
export const Unlock = icon(<><rect x="3" y="7" width="10" height="7" rx="1.6" /><path d="M5.3 7V4.800a2.7 2.7 0 015.2-1" /></>)
export const Search = icon(<><circle cx="7" cy="7" r="4.5" /><path d="M10.5 10.500L14 14" /></>)
export const Close = icon(<path d="M3.5 3.500l9 9M12.5 3.500l-9 9" />)
export const Copy = icon(<><rect x="5.5" y="5.5" width="8" height="8" rx="1.5" /><path d="M3.5 10.500h-1v-8h8v1" /></>)
export const Tick = icon(<path d="M3 8.500l3.3 3.300L13 4.5" />)
export const Plus = icon(<path d="M8 3v10M3 8h10" />)
export const Minus = icon(<path d="M3 8h10" />)
export const Fit = icon(<path d="M2.5 6V2.500H6M10 2.500h3.500V6M13.5 10v3.500H10M6 13.500H2.500V10" />)
export const Up = icon(<path d="M8 4l5 7H3z" />, true)
export const Sun = icon(<><circle cx="8" cy="8" r="2.8" /><path d="M8 1.500v1.200M8 13.300v1.200M1.5 8h1.200M13.3 8h1.200M3.4 3.400l.9.9M11.7 11.700l.9.900M12.6 3.400l-.9.9M4.3 11.700l-.9.9" /></>)
export const Moon = icon(<path d="M13.5 9.500A6 6 0 016.5 2.500a6 6 0 107 7z" />)

// The states: each has its own shape.
export const StateOk = icon(<path d="M8 1.500a6.5 6.5 0 110 13 6.5 6.5 0 010-13zm3.3 4.200L7.2 9.8 5 7.7" fill="none" stroke="currentColor" stroke-width="1.7" />)
export const StateWarn = icon(<path fill="none" stroke="currentColor" stroke-width="1.7" d="M8 2.200l6.3 11.300H1.700zM8 6.500v3.200M8 11.600v.2" />)
export const StateBad = icon(<path fill="none" stroke="currentColor" stroke-width="1.7" d="M5.2 1.700h5.600l3.5 3.500v5.600l-3.5 3.500H5.200l-3.5-3.500V5.200zM5.8 5.800l4.4 4.400M10.2 5.800l-4.4 4.4" />)
export const StateIdle = icon(<path fill="none" stroke="currentColor" stroke-width="1.7" d="M8 1.700a6.3 6.3 0 110 12.600A6.3 6.3 0 018 1.700zM5.3 8h5.4" />)
