import { describe, expect, it } from 'vitest'
import { flatten, rowsOf, rules, words } from '../src/ui/dump'
import { path } from '../src/ui/spark'
import { compare } from '../src/ui/table'
import { ofProxy } from '../src/health'
import type { Proxy } from '../src/api'

describe('sorting', () => {
  it('puts the unknown last both ways', () => {
    expect([3, null, 1, 2].sort((a, b) => compare(a, b, false))).toEqual([1, 2, 3, null])
    expect([3, null, 1, 2].sort((a, b) => compare(a, b, true))).toEqual([3, 2, 1, null])
  })
  it('counts numbers in names', () => expect(['web-10', 'web-9'].sort((a, b) => compare(a, b, false))).toEqual(['web-9', 'web-10']))
})

describe('a sparkline', () => {
  it('leaves gaps where nothing is known', () => expect(path([0, null, 10], 10)).toBe('M0.0 24.0M112.0 3.0'))
})

describe('a dump', () => {
  it('names things in words', () => {
    expect(words('viewVersion')).toBe('View version')
    expect(words('last_good')).toBe('Last good')
  })
  it('reads lists and maps of objects as rows', () => {
    expect(rowsOf([{ a: 1 }])).toEqual([{ a: 1 }])
    expect(rowsOf({ x: { a: 1 } })).toEqual([{ key: 'x', a: 1 }])
    expect(rowsOf([1, 2])).toBeNull()
    expect(rowsOf({ a: 1 })).toBeNull()
  })
  it('writes routes in words', () => {
    const backends = [{ destination: 'v1.default:80', weight: 80 }, { destination: 'v2.default:80', weight: 20 }]
    expect(rules([{ hostnames: ['*'], rules: [{ backends }, { matches: [{ method: 'GET', path_prefix: '/a/' }, { path: '/b', headers: { x: 'y' } }], backends: [] }, { matches: [{ path_expression: '/v[0-9]', query: { a: '1' } }], filters: ['redirect'], backends: [] }] }])).toEqual([
      '→ v1.default:80 80 %, v2.default:80 20 %', 'GET /a/… or /b x: y → no backend', '~ /v[0-9] ?a=1 → (redirect)',
    ])
  })
  it('brings inner lists out', () => {
    expect(flatten([{ key: 'a', endpoints: [{ address: '1' }, { address: '2' }] }, { key: 'b', endpoints: [] }])).toEqual([{ key: 'a', address: '1' }, { key: 'a', address: '2' }, { key: 'b' }])
  })
})

describe('a proxy', () => {
  const good: Proxy = { name: 'p', namespace: 'd', role: 'sidecar', identity: '', version: '', uid: '', pid: 1, mode: '', connected: true, since: '', ready: true, draining: false, sent: 2, acknowledged: 2, subscriptions: 0 }
  it.each([
    [{}, 'ready'], [{ connected: false }, 'disconnected'], [{ draining: true }, 'draining'], [{ rejected: 'no' }, 'rejects its config'], [{ ready: false }, 'not ready'], [{ acknowledged: 1 }, 'catching up'],
  ])('%o is %s', (change, word) => expect(ofProxy({ ...good, ...change }).word).toBe(word))
})
