// Who looks. Where nobody has to say, it is whoever is at this machine; else a
// link of `tulle dashboard`, or a token, begins a session, whose secret no script
// sees.
import { useEffect, useState } from 'preact/hooks'
import { ask, type Me, signedOut } from './api'
import { start, stop } from './live'
import { go } from './router'

/** null has to log in; undefined isn't known yet, or can't be asked. */
export interface Session { me: Me | null | undefined; error: string | null }

let state: Session = { me: undefined, error: null }
const listeners = new Set<(s: Session) => void>()

function set(now: Session): void {
  state = now
  listeners.forEach((f) => f(state))
}

async function post(path: string, body: object): Promise<Response> {
  return fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
}

async function logIn(proof: { code: string } | { token: string }): Promise<string | null> {
  try {
    const response = await post('/api/login', proof)
    const body = await response.json().catch(() => ({ error: `${response.status} ${response.statusText}` }))
    if (!response.ok) return body.error ?? `${response.status} ${response.statusText}`
    set({ me: body as Me, error: null })
    return null
  } catch {
    return 'The control plane does not answer. Is it still running?'
  }
}

/** begin finds out who looks, and starts what they see. */
export async function begin(): Promise<void> {
  signedOut.add((why) => {
    stop()
    if (state.me !== null) set({ me: null, error: state.me ? 'The session is over.' : null })
    else if (!state.error && why) set({ me: null, error: null })
  })
  let error: string | null = null
  if (location.pathname === '/login') {
    const code = location.hash.slice(1)
    history.replaceState(null, '', '/') // a code is nothing to keep
    if (code) error = await logIn({ code })
    go('/', true)
    if (state.me) return start()
  }
  try {
    set({ me: await ask<Me>('/api/me'), error: null })
  } catch {
    if (state.me === null) return set({ me: null, error })
    set({ me: undefined, error: null }) // it isn't there: the pages say so, and go on asking
  }
  start()
}

export async function withToken(token: string): Promise<string | null> {
  const error = await logIn({ token })
  if (!error) start()
  return error
}

/** Ways to log in beside a link and a token. */
export interface Ways { signIn?: string; at?: string }

export async function ways(): Promise<Ways> {
  try {
    const response = await fetch('/api/ways')
    return response.ok ? await response.json() as Ways : {}
  } catch {
    return {}
  }
}

export async function logOut(): Promise<void> {
  await post('/api/logout', {}).catch(() => null)
  location.assign('/') // nothing of what was shown stays
}

export function useSession(): Session {
  const [now, update] = useState(state)
  useEffect(() => {
    listeners.add(update)
    update(state)
    return () => void listeners.delete(update)
  }, [])
  return now
}
