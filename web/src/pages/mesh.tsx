import type { CheckAnswer, Overview, Result } from '../api'
import * as format from '../format'
import type { State } from '../health'
import { useAnswer } from '../live'
import { Card, Copyable, Facts, Failed, Head, Mark, Skeleton, Status } from '../ui/parts'

const states: Record<Result, State> = { success: 'ok', warning: 'warn', error: 'bad' }

export function Mesh({ overview }: { overview: Overview }) {
  const { data, error } = useAnswer<CheckAnswer>('/api/check', 5000)
  const status = data?.status ?? overview.status
  const checks = data?.report.checks ?? []
  const wrong = checks.filter((c) => c.result !== 'success').length
  const categories = [...new Set(checks.map((c) => c.category))]
  return (
    <div class="page">
      <Head title="Mesh" sub={status ? status.trustDomain : undefined}>
        {data && <Status state={states[data.report.result]}>{wrong === 0 ? `All ${checks.length} checks pass` : `${wrong} of ${checks.length} checks need a look`}</Status>}
      </Head>
      {error && <Failed what="The checks can't be run" error={error} />}
      {status && (
        <div class="cards">
          <Card title="Control plane">
            <div class="body">
              <Facts of={[
                ['Version', <span class="mono">{status.version}</span>],
                ['Running for', <>{format.span((overview.at - Date.parse(status.started)) / 1000)}<span class="quiet"> · process {status.pid}</span></>],
                ['Config', <>version {status.snapshot}</>],
                ['Proxies connect to', status.listen ? <Copyable>{status.listen}</Copyable> : <span class="quiet">a Unix socket only</span>],
                ['Data', <Copyable>{status.dataDir}</Copyable>],
              ]} />
            </div>
          </Card>
          <Card title="Identity and store">
            <div class="body">
              <Facts of={[
                ['Trust domain', <span class="mono">{status.trustDomain}</span>],
                ['Root pin', <Copyable>{status.rootPin}</Copyable>],
                ['Names end in', <span class="mono">svc.{status.clusterDomain}</span>],
                ['Store', status.store.error ? <Status state="bad">{status.store.error}</Status> : <>{status.store.kind}</>],
                ['Stored', <StoreSize bytes={status.store.bytes} quota={status.store.quota} />],
              ]} />
            </div>
          </Card>
        </div>
      )}
      {!data && !error && <Skeleton height={240} />}
      {categories.map((category) => {
        const mine = checks.filter((c) => c.category === category)
        return (
          <div class="check-card" key={category}><Card title={category} sub={`${mine.filter((c) => c.result === 'success').length} of ${mine.length}`}>
            <ul class="checks" style={{ marginTop: '8px' }}>
              {mine.map((c) => (
                <li key={c.description}>
                  <span class={`t-${states[c.result]}`}><Mark state={states[c.result]} /></span>
                  <span>{c.description}<span class="sr">: {c.result}</span></span>
                  {(c.error || c.hint) && <div class="hint">{c.error && <p>{c.error}</p>}{c.hint && <pre>{c.hint}</pre>}</div>}
                </li>
              ))}
            </ul>
          </Card></div>
        )
      })}
    </div>
  )
}

function StoreSize({ bytes, quota }: { bytes: number; quota: number }) {
  if (!quota) return <>{format.text(format.bytes(bytes))}</>
  const share = bytes / quota
  return (
    <>
      {format.text(format.bytes(bytes))} <span class="quiet">of {format.text(format.bytes(quota))}</span>
      <div class={`bar ${share > 0.9 ? 'bad' : share > 0.75 ? 'warn' : ''}`} style={{ marginTop: '6px' }}><i style={{ width: `${Math.min(100, share * 100)}%` }} /></div>
    </>
  )
}
