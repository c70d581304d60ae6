import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { Overview } from '../src/api'

const overview = (o: Partial<Overview>): Overview => ({ at: 1, status: null, check: null, stat: null, edges: null, services: [], proxies: [], problems: [], ...o })
const service = { name: 's', namespace: 'd', ports: [], addresses: [], workloads: [], ready: 0, total: 0, routes: [] }

describe('an overview that lacks a part', () => {
  let merge: (old: Overview | null, now: Overview) => Overview
  beforeAll(async () => {
    vi.stubGlobal('document', { visibilityState: 'visible' })
    ;({ merge } = await import('../src/live'))
  })
  const old = overview({ services: [service], stat: { window: '1m', services: [] } })
  it('keeps what was known of it', () => {
    const now = merge(old, overview({ at: 2, problems: ['services: no answer', 'metrics: no answer'] }))
    expect([now.at, now.services.length, now.stat?.window]).toEqual([2, 1, '1m'])
  })
  it('believes that something is gone when nothing failed', () => expect(merge(old, overview({})).services).toEqual([]))
  it('keeps nothing when there was nothing', () => expect(merge(null, overview({ problems: ['services: x'] })).services).toEqual([]))
})
