// Pages by path. Links are ordinary links: a plain click changes the page here,
// anything else (new tab, middle button) is the browser's.
import { useEffect, useState } from 'preact/hooks'

export interface Location { path: string; query: URLSearchParams }

const here = (): Location => ({ path: location.pathname, query: new URLSearchParams(location.search) })
const listeners = new Set<() => void>()

export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search) return
  const samePage = to.split('?')[0] === location.pathname
  history[replace ? 'replaceState' : 'pushState'](null, '', to)
  listeners.forEach((f) => f())
  if (!samePage) {
    scrollTo(0, 0)
    document.querySelector<HTMLElement>('main')?.focus({ preventScroll: true })
  }
}

addEventListener('popstate', () => listeners.forEach((f) => f()))
addEventListener('click', (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  const link = (event.target as Element | null)?.closest?.('a')
  if (!link || link.target || link.origin !== location.origin || link.pathname.startsWith('/api/')) return
  event.preventDefault()
  go(link.pathname + link.search)
})

export function useLocation(): Location {
  const [now, set] = useState(here)
  useEffect(() => {
    const update = () => set(here())
    listeners.add(update)
    return () => void listeners.delete(update)
  }, [])
  return now
}
