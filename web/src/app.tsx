import type { ComponentChildren, FunctionComponent } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Me, Overview, Peer } from './api'
import { span } from './format'
import { type State, ofProxy, worst } from './health'
import { useLive } from './live'
import { Login } from './pages/login'
import { Proxies } from './pages/proxies'
import { Services } from './pages/services'
import { Topology } from './pages/topology'
import { useLocation } from './router'
import { logOut, useSession } from './session'
import * as Icon from './ui/icons'
import { Empty, Failed, Skeleton, Status } from './ui/parts'

// Pages that the first view doesn't need come when they are asked for.
const ServicePage = later(() => import('./pages/service').then((m) => m.ServicePage))
const ProxyPage = later(() => import('./pages/proxy').then((m) => m.ProxyPage))
const Mesh = later(() => import('./pages/mesh').then((m) => m.Mesh))

function later<P extends object>(load: () => Promise<FunctionComponent<P>>): FunctionComponent<P> {
  let loaded: FunctionComponent<P> | null = null
  return function Later(props: P) {
    const [failed, setFailed] = useState(false)
    const [, update] = useState(0)
    useEffect(() => {
      if (!loaded) {
        load().then(
          (page) => {
            loaded = page
            update(1)
          },
          () => setFailed(true),
        )
      }
    }, [])
    if (failed) return <div class="page"><Failed what="This page can't be loaded" error="The control plane was replaced or is gone; reload the page." /></div>
    const Page = loaded
    return Page ? <Page {...props} /> : <div class="page"><Skeleton height={34} /><Skeleton height={240} /></div>
  }
}

const pages = [
  { href: '/', name: 'Topology', icon: Icon.Graph },
  { href: '/services', name: 'Services', icon: Icon.Box },
  { href: '/proxies', name: 'Proxies', icon: Icon.Shield },
  { href: '/mesh', name: 'Mesh', icon: Icon.Heart },
]

export function App() {
  const session = useSession()
  return session.me === null ? <Login error={session.error} /> : <Shell me={session.me} />
}

function Shell({ me }: { me: Me | undefined }) {
  const live = useLive()
  const { path } = useLocation()
  const overview = live.overview
  const section = '/' + (path.split('/')[1] ?? '')
  useEffect(() => {
    const part = path.split('/').filter(Boolean)
    document.title = [part[2] && decodeURIComponent(part[2]), pages.find((p) => p.href === section)?.name, 'Tulle'].filter(Boolean).join(' · ')
  }, [path])
  return (
    <div class="shell">
      <header class="rail">
        <a class="brand" href="/" aria-label="Tulle, topology"><Icon.Net /><span>Tulle</span></a>
        <nav class="nav" aria-label="Pages">
          {pages.map((p) => (
            <a href={p.href} aria-current={section === p.href ? 'page' : undefined}><p.icon />{p.name}<Count overview={overview} of={p.name} /></a>
          ))}
        </nav>
        <div class="rail-foot">
          {me?.session && <Operator me={me} />}
          <Health overview={overview} connected={live.connected} />
          <Theme />
        </div>
      </header>
      <main class="main" tabindex={-1}>
        <Banner overview={overview} came={live.came} connected={live.connected} />
        {overview ? <Page path={path} overview={overview} /> : live.error ? <div class="page"><Failed what="The mesh can't be shown" error={live.error} /></div> : <First />}
      </main>
    </div>
  )
}

function Page({ path, overview }: { path: string; overview: Overview }): ComponentChildren {
  const part = path.split('/').filter(Boolean).map(decodeURIComponent)
  const of: Peer = { namespace: part[1] ?? '', name: part[2] ?? '' }
  if (part.length === 0) return <Topology overview={overview} />
  if (part[0] === 'services' && part.length === 1) return <Services overview={overview} />
  if (part[0] === 'services' && part.length === 3) return <ServicePage key={path} overview={overview} of={of} />
  if (part[0] === 'proxies' && part.length === 1) return <Proxies overview={overview} />
  if (part[0] === 'proxies' && part.length === 3) return <ProxyPage key={path} overview={overview} of={of} />
  if (part[0] === 'mesh' && part.length === 1) return <Mesh overview={overview} />
  return <div class="page"><div class="card"><Empty title="There is no such page">The address may have been cut short. <a class="link" href="/">Back to the topology</a></Empty></div></div>
}

function First() {
  return <div class="page" aria-busy="true"><span class="sr">Loading</span><Skeleton height={34} /><Skeleton height={320} /></div>
}

function Count({ overview, of }: { overview: Overview | null; of: string }) {
  if (!overview) return null
  if (of === 'Services') return <span class="count">{overview.services.length}</span>
  if (of === 'Proxies') return <span class="count">{overview.proxies.length}</span>
  if (of === 'Mesh' && overview.check) {
    const n = overview.check.errors + overview.check.warnings
    return n > 0 ? <span class={`count t-${overview.check.errors > 0 ? 'bad' : 'warn'}`}>{n}</span> : null
  }
  return null
}

/** Operator is who looks, what they may, and of what. */
function Operator({ me }: { me: Me }) {
  const of = me.namespaces.length > 0 ? me.namespaces.join(', ') : 'all namespaces'
  return (
    <div class="operator wide">
      <span class="row" title={`${me.name}, by ${me.how}`}><Icon.Shield /><span>{me.name}</span></span>
      <span class="row quiet" title={of}><span>{me.role} · {of}</span></span>
      <button type="button" class="theme" onClick={logOut}>Log out</button>
    </div>
  )
}

function Health({ overview, connected }: { overview: Overview | null; connected: boolean }) {
  let state: State = 'idle'
  let word = 'connecting'
  if (overview && !connected) [state, word] = ['warn', 'not live']
  else if (overview) {
    const proxies = worst('ok', ...overview.proxies.map((p) => ofProxy(p).state))
    state = overview.check?.result === 'error' ? 'bad' : overview.check?.result === 'warning' ? 'warn' : proxies
    word = { ok: 'healthy', warn: 'needs a look', bad: 'needs help', idle: 'unknown' }[state]
  }
  return (
    <>
      <a class="row" href="/mesh"><Status state={state}>{word}</Status></a>
      <span class="row wide quiet" title="trust domain"><span>{overview?.status?.trustDomain ?? '\u00a0'}</span></span>
    </>
  )
}

function Banner({ overview, came, connected }: { overview: Overview | null; came: number; connected: boolean }) {
  const [now, tick] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => tick(Date.now()), 1000)
    return () => clearInterval(timer)
  }, [])
  const age = (now - came) / 1000
  if (overview && (!connected || age > 12) && age > 4) {
    return <div class="banner" role="status"><Icon.StateWarn />The control plane has been silent for {span(age)}; the numbers are of then. The mesh itself goes on without it.</div>
  }
  if (overview && overview.problems.length > 0) {
    return <div class="banner" role="status"><Icon.StateWarn />{overview.problems.join(' · ')}</div>
  }
  return null
}

function Theme() {
  const systemDark = matchMedia('(prefers-color-scheme: dark)').matches
  const [theme, set] = useState(document.documentElement.dataset.theme ?? (systemDark ? 'dark' : 'light'))
  const other = theme === 'dark' ? 'light' : 'dark'
  const turn = () => {
    document.documentElement.dataset.theme = other
    try {
      localStorage.setItem('tulle-theme', other)
    } catch {
      // it holds until the page is left
    }
    set(other)
    dispatchEvent(new Event('tulle-theme'))
  }
  return <button type="button" class="theme" onClick={turn} aria-label={`Use the ${other} theme`}>{theme === 'dark' ? <Icon.Sun /> : <Icon.Moon />}<span class="wide">{other === 'dark' ? 'Dark' : 'Light'} theme</span></button>
}
