import { describe, expect, it } from 'vitest'
import * as format from '../src/format'

const t = format.text
const nbsp = (s: string) => s.replace(/ /g, '\u00a0')

describe('figures', () => {
  it.each([
    [null, '–'], [0, '0 rps'], [0.004, '<0.01 rps'], [0.3, '0.30 rps'], [9.994, '9.99 rps'], [9.996, '10.0 rps'], [48.23, '48.2 rps'],
    [99.96, '100 rps'], [999.4, '999 rps'], [999.7, '1.00k rps'], [12_340, '12.3k rps'], [4_560_000, '4.56M rps'],
  ])('rate %s', (v, want) => expect(t(format.rate(v))).toBe(nbsp(want)))

  it.each([
    [null, '–'], [1, '100 %'], [0.99999, '99.99 %'], [0.9984, '99.84 %'], [0.9899, '98.9 %'], [0.5, '50.0 %'], [0, '0.0 %'],
  ])('percent %s never rounds up to 100', (v, want) => expect(t(format.percent(v))).toBe(nbsp(want)))

  it.each([
    [null, '–'], [0, '0 ms'], [0.004, '<0.01 ms'], [0.42, '0.42 ms'], [4.2, '4.20 ms'], [42.5, '42.5 ms'], [999.4, '999 ms'], [999.6, '1.00 s'], [16_000, '16.0 s'],
  ])('millis %s', (v, want) => expect(t(format.millis(v))).toBe(nbsp(want)))

  it.each([
    [null, '–'], [0, '0 B'], [0.4, '<1 B'], [812, '812 B'], [8400, '8.40 kB'], [51_200, '51.2 kB'], [9_200_000, '9.20 MB'],
  ])('bytes %s', (v, want) => expect(t(format.bytes(v))).toBe(nbsp(want)))

  it('throughput has a time', () => expect(t(format.throughput(8400))).toBe(nbsp('8.40 kB/s')))

  it.each([
    [{ value: '99.84', unit: '%' }, '99.8 %'], [{ value: '99.99', unit: '%' }, '99.9 %'], [{ value: '100', unit: '%' }, '100 %'],
    [{ value: '8.16', unit: 'ms' }, '8.2 ms'], [{ value: '62.6', unit: 'ms' }, '63 ms'], [{ value: '5.00', unit: 'ms' }, '5 ms'], [{ value: '–', unit: '' }, '–'],
  ])('short %o', (f, want) => expect(t(format.short(f))).toBe(nbsp(want)))

  it.each([
    [{ value: '40.0', unit: 'rps' }, '40 rps'], [{ value: '0.50', unit: 'ms' }, '0.5 ms'], [{ value: '100', unit: '%' }, '100 %'], [{ value: '0', unit: '' }, '0'], [{ value: '2.50k', unit: 'rps' }, '2.5k rps'], [{ value: '2.00k', unit: 'rps' }, '2k rps'],
  ])('tick %o', (f, want) => expect(format.tick(f)).toBe(nbsp(want)))

  it.each([
    [-3, '0 s'], [42, '42 s'], [75, '1 min 15 s'], [600, '10 min'], [80_280, '22 h 18 min'], [7200, '2 h'], [200_000, '2 d 7 h'],
  ])('span %s', (s, want) => expect(format.span(s)).toBe(want))

  it.each([[null, '–'], [1, 'all'], [0, 'none'], [0.125, nbsp('12.5 %')]])('share %s', (v, want) => expect(format.share(v)).toBe(want))
})
