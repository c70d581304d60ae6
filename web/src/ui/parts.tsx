// The small parts that every page is made of.
import type { ComponentChildren, TargetedEvent } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { type Peer, proxyPath, servicePath } from '../api'
import { type Figure, share, text } from '../format'
import type { State } from '../health'
import * as Icon from './icons'

export function Mark({ state }: { state: State }) {
  const Shape = { ok: Icon.StateOk, warn: Icon.StateWarn, bad: Icon.StateBad, idle: Icon.StateIdle }[state]
  return <Shape />
}

/** Status is a state's shape and a word for it. */
export function Status({ state, children }: { state: State; children: ComponentChildren }) {
  return <span class={`state t-${state}`}><Mark state={state} /><span>{children}</span></span>
}

export function Tag({ tone = '', children, title }: { tone?: State | 'accent' | ''; children: ComponentChildren; title?: string }) {
  return <span class={`tag ${tone}`} title={title}>{children}</span>
}

/** Unit is a figure with its unit set apart. */
export function Unit({ of }: { of: Figure }) {
  return <>{of.value}{of.unit && <span class="unit">{of.unit}</span>}</>
}

/** MutualTLS is a lock when all traffic is over mutual TLS, else a warning. */
export function MutualTLS({ of }: { of: number | null }) {
  if (of === null) return <span class="quiet">–</span>
  if (of >= 1) return <span class="lock t-ok" title="All traffic over mutual TLS"><Icon.Lock /><span>mutual TLS</span></span>
  return <span class="lock t-warn" title={`${share(1 - of)} of the traffic in plaintext or without a client's identity`}><Icon.Unlock />{of <= 0 ? 'plaintext' : `${share(of)} mutual`}</span>
}

export function ServiceLink({ of, short }: { of: Peer; short?: boolean }) {
  return <a class="link" href={servicePath(of)}>{of.name}{!short && <span class="ns">.{of.namespace}</span>}</a>
}

export function ProxyLink({ of, short }: { of: Peer; short?: boolean }) {
  return <a class="link" href={proxyPath(of)}>{of.name}{!short && <span class="ns">.{of.namespace}</span>}</a>
}

export function Tile({ what, of, note, state }: { what: string; of: Figure | string; note?: string; state?: State }) {
  const figure = typeof of === 'string' ? { value: of, unit: '' } : of
  return (
    <div class="tile">
      <span class="what">{what}</span>
      <span class={`value ${state && state !== 'ok' && state !== 'idle' ? `t-${state}` : ''}`} title={text(figure)}>{figure.value}{figure.unit && <small>{figure.unit}</small>}</span>
      {note !== undefined && <span class="note" title={note}>{note || '\u00a0'}</span>}
    </div>
  )
}

export function Card({ title, sub, end, children }: { title: ComponentChildren; sub?: ComponentChildren; end?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="card">
      <header><h2>{title}</h2>{sub && <span class="sub">{sub}</span>}{end}</header>
      {children}
    </section>
  )
}

export function Head({ title, sub, crumbs, children }: { title: ComponentChildren; sub?: ComponentChildren; crumbs?: { name: string; href: string }[]; children?: ComponentChildren }) {
  return (
    <header class="head">
      {crumbs && <nav class="crumbs" aria-label="Path">{crumbs.map((c) => <><a href={c.href}>{c.name}</a><span aria-hidden="true">/</span></>)}</nav>}
      <h1>{title}</h1>
      {sub && <span class="sub">{sub}</span>}
      {children && <div class="end">{children}</div>}
    </header>
  )
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return <dl class="facts">{of.map(([name, value]) => <><dt>{name}</dt><dd>{value}</dd></>)}</dl>
}

/** Copyable is text that a click copies. */
export function Copyable({ children }: { children: string }) {
  const [done, set] = useState(false)
  const copy = () => {
    void navigator.clipboard?.writeText(children).then(() => {
      set(true)
      setTimeout(() => set(false), 1200)
    })
  }
  return <button class="copy mono" onClick={copy} title="Copy"><span>{children}</span>{done ? <Icon.Tick title="copied" /> : <Icon.Copy />}</button>
}

export function Segments<T extends string>({ of, value, onChange, label }: { of: T[]; value: T; onChange: (v: T) => void; label: string }) {
  return <div class="segments" role="group" aria-label={label}>{of.map((v) => <button type="button" aria-pressed={v === value} onClick={() => onChange(v)}>{v}</button>)}</div>
}

/** SearchBox filters what is shown; the key / leads to it. */
export function SearchBox({ value, onChange, label }: { value: string; onChange: (v: string) => void; label: string }) {
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      const at = event.target as Element
      if (event.key === '/' && !event.ctrlKey && !event.metaKey && at.tagName !== 'INPUT') {
        event.preventDefault()
        input.current?.focus()
      }
    }
    addEventListener('keydown', focus)
    return () => removeEventListener('keydown', focus)
  }, [])
  const typed = (event: TargetedEvent<HTMLInputElement>) => onChange(event.currentTarget.value)
  const leave = (event: KeyboardEvent) => event.key === 'Escape' && (onChange(''), input.current?.blur())
  return (
    <label class="search">
      <span class="sr">{label}</span><Icon.Search />
      <input ref={input} value={value} onInput={typed} onKeyDown={leave} placeholder={label} spellcheck={false} autocomplete="off" />
      {!value && <kbd>/</kbd>}
    </label>
  )
}

/** Empty teaches what would be here, and how to get it. */
export function Empty({ title, children, code, icon, small }: { title: string; children?: ComponentChildren; code?: string; icon?: ComponentChildren; small?: boolean }) {
  return (
    <div class={`empty ${small ? 'small' : ''}`}>
      {icon}
      <h3>{title}</h3>
      {children && <p>{children}</p>}
      {code && <pre>{code}</pre>}
    </div>
  )
}

export function Failed({ what, error }: { what: string; error: string }) {
  return (
    <div class="card" role="alert">
      <Empty title={what} icon={<span class="t-bad"><Icon.StateBad /></span>} code="tulle check">{error} The command below says what is wrong and what to do.</Empty>
    </div>
  )
}

export function Skeleton({ height }: { height: number }) {
  return <div class="skeleton" style={{ height: `${height}px` }} aria-hidden="true" />
}
