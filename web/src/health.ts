// When numbers are worth a worry. The limits are stated once, here, and shown in
// the pages' texts.
import type { Num, Proxy, Signals } from './api'

export type State = 'ok' | 'warn' | 'bad' | 'idle'

/** Success rates from these on are fine, or a warning. */
export const fine = 0.99
export const poor = 0.95

export function ofSuccess(v: Num): State {
  if (v === null) return 'idle'
  return v >= fine ? 'ok' : v >= poor ? 'warn' : 'bad'
}

/** tone is the class of a figure: only what is wrong has a colour. */
export const tone = (s: State): string => (s === 'warn' || s === 'bad' ? `t-${s}` : '')

const order: State[] = ['idle', 'ok', 'warn', 'bad']

export function worst(...states: State[]): State {
  return states.reduce((a, b) => (order.indexOf(b) > order.indexOf(a) ? b : a), 'idle')
}

/** ofEndpoints judges how many of a service's endpoints may be picked. */
export function ofEndpoints(ready: number, total: number): State {
  if (total === 0) return 'idle'
  return ready === total ? 'ok' : ready === 0 ? 'bad' : 'warn'
}

/** active says whether anything went over an edge or to a service. */
export function active(s: Signals): boolean {
  return (s.rps ?? 0) > 0 || (s.tcp_connections ?? 0) > 0 || (s.received_bytes_per_second ?? 0) + (s.sent_bytes_per_second ?? 0) > 0
}

/** plaintext says whether some of the traffic was not over mutual TLS. */
export const plaintext = (s: Signals): boolean => s.mutual_tls !== null && s.mutual_tls < 1

export interface Verdict { state: State; word: string }

export function ofProxy(p: Proxy): Verdict {
  if (!p.connected) return { state: 'bad', word: 'disconnected' }
  if (p.draining) return { state: 'warn', word: 'draining' }
  if (p.rejected) return { state: 'bad', word: 'rejects its config' }
  if (!p.ready) return { state: 'warn', word: 'not ready' }
  if (p.acknowledged !== p.sent) return { state: 'warn', word: 'catching up' }
  return { state: 'ok', word: 'ready' }
}
