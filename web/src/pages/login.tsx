import type { TargetedEvent } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { ways, type Ways, withToken } from '../session'
import * as Icon from '../ui/icons'
import { Card, Copyable, Failed } from '../ui/parts'

/** Login is what somebody sees who has to say who they are. */
export function Login({ error }: { error: string | null }) {
  const [token, setToken] = useState('')
  const [refused, setRefused] = useState<string | null>(null)
  const [busy, setBusy] = useState(false)
  const [how, setHow] = useState<Ways>({})
  useEffect(() => void ways().then(setHow), [])
  const submit = async (event: TargetedEvent<HTMLFormElement>) => {
    event.preventDefault()
    setBusy(true)
    setRefused(await withToken(token.trim()))
    setBusy(false)
  }
  return (
    <main class="login">
      <h1 class="brand"><Icon.Net /><span>Tulle</span></h1>
      {(refused ?? error) && <Failed what="You aren't logged in" error={refused ?? error ?? ''} />}
      <Card title="Log in">
        <div class="body">
          {how.at && <p><a class="sign-in" href={how.at} target="_self">Log in with {how.signIn}</a></p>}
          <p>This mesh has operators. Open the link that this prints, on a machine where you are one:</p>
          <p><Copyable>tulle dashboard</Copyable></p>
          <form onSubmit={submit}>
            <label for="token">Or a token: an operator's, or an OpenID Connect ID token</label>
            <span class="ask">
              <input id="token" type="password" autocomplete="off" spellcheck={false} required value={token} onInput={(e) => setToken(e.currentTarget.value)} />
              <button type="submit" disabled={busy}>Log in</button>
            </span>
          </form>
        </div>
      </Card>
    </main>
  )
}
