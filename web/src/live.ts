// The overview that the control plane sends again and again, and whether it
// still comes.
import { useEffect, useState } from 'preact/hooks'
import { ask, type Overview } from './api'

export interface Live {
  overview: Overview | null
  /** When the last one came, by this machine's clock; 0 before the first. */
  came: number
  connected: boolean
  /** Why there is nothing at all. */
  error: string | null
}

let state: Live = { overview: null, came: 0, connected: false, error: null }
const listeners = new Set<(s: Live) => void>()

/** merge keeps of the last overview what the new one couldn't get. */
export function merge(old: Overview | null, now: Overview): Overview {
  if (!old || now.problems.length === 0) return now
  const lacks = (part: string) => now.problems.some((p) => p.startsWith(part + ':'))
  return {
    ...now,
    status: now.status ?? old.status,
    check: now.check ?? old.check,
    stat: now.stat ?? old.stat,
    edges: now.edges ?? old.edges,
    services: lacks('services') ? old.services : now.services,
    proxies: lacks('proxies') ? old.proxies : now.proxies,
  }
}

/** unknown says why a part of the overview isn't known; null when it is. */
export function unknown(o: Overview, part: string): string | null {
  return o.problems.find((p) => p.startsWith(part + ':'))?.slice(part.length + 2) ?? null
}

function set(change: Partial<Live>): void {
  state = { ...state, ...change }
  listeners.forEach((f) => f(state))
}

let source: EventSource | null = null
let running = false

function open(): void {
  if (!running) return
  close()
  source = new EventSource('/api/events')
  source.addEventListener('overview', (event) => {
    set({ overview: merge(state.overview, JSON.parse((event as MessageEvent<string>).data) as Overview), came: Date.now(), connected: true, error: null })
  })
  source.onopen = () => set({ connected: true })
  source.onerror = () => {
    set({ connected: false })
    // A refused stream is closed for good by the browser: ask why, and try again.
    if (source?.readyState === EventSource.CLOSED) {
      ask<Overview>('/api/overview').then(
        (overview) => set({ overview, came: Date.now(), error: null }),
        (error: Error) => set({ error: error.message }),
      )
      setTimeout(() => document.visibilityState === 'visible' && open(), 3000)
    } else if (!state.overview) {
      set({ error: 'The control plane does not answer. Is it still running?' })
    }
  }
}

function close(): void {
  source?.close()
  source = null
}

/** start keeps the overview coming while the page is looked at. */
export function start(): void {
  if (running) return
  running = true
  open()
  document.addEventListener('visibilitychange', turn)
}

/** stop ends that, and forgets what came. */
export function stop(): void {
  running = false
  close()
  document.removeEventListener('visibilitychange', turn)
  set({ overview: null, came: 0, connected: false, error: null })
}

function turn(): void {
  close()
  if (document.visibilityState === 'visible') open()
}

export function useLive(): Live {
  const [now, update] = useState(state)
  useEffect(() => {
    listeners.add(update)
    update(state)
    return () => void listeners.delete(update)
  }, [])
  return now
}

export interface Answer<T> { data: T | null; error: string | null }

/** useAnswer asks for something now and every so many milliseconds. */
export function useAnswer<T>(path: string, every: number): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T> & { path: string }>({ path, data: null, error: null })
  useEffect(() => {
    const abort = new AbortController()
    let timer = 0
    const round = async () => {
      if (document.visibilityState === 'visible') {
        try {
          const data = await ask<T>(path, abort.signal)
          setAnswer({ path, data, error: null })
        } catch (error) {
          if (abort.signal.aborted) return
          setAnswer((old) => ({ path, data: old.path === path ? old.data : null, error: (error as Error).message }))
        }
      }
      if (!abort.signal.aborted) timer = window.setTimeout(round, every)
    }
    void round()
    return () => {
      abort.abort()
      clearTimeout(timer)
    }
  }, [path, every])
  return answer.path === path ? answer : { data: null, error: null }
}
