/** What a benchmark is: the engine's time and the running kernel's for the same work, in one run. */
export interface BenchCase {
  name: string
  /** With `native`: the largest engine / native that is accepted. Without: the largest engine value, in `unit`. */
  limit: number
  /** Unit of what both halves return, for instance `ns/page`. */
  unit: string
  /** One measurement of the kernel, or why this machine has none. */
  native?(): Promise<number | { skip: string }>
  /** One measurement of the engine, or what this machine lacks for it. */
  engine(): Promise<number | { skip: string }>
}

/** What came out of a case. */
export interface BenchResult {
  name: string
  unit: string
  limit: number
  /** Median over the rounds; NaN when the case was skipped. */
  engine: number
  engineSamples: number[]
  /** Median over the rounds; null without a native half, a reason when it was skipped. */
  native: number | { skip: string } | null
  nativeSamples: number[]
  /** engine / native, null when there is no native number. */
  ratio: number | null
  /** False when the limit is exceeded, null when there was nothing to compare with. */
  ok: boolean | null
}

/** Median of a non-empty list. */
export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Measures native and engine in turn, `rounds` times each, so that what the machine does meanwhile hits both. */
export async function runCase(benchCase: BenchCase, rounds: number): Promise<BenchResult> {
  const engineSamples: number[] = []
  const nativeSamples: number[] = []
  let skip: string | undefined
  for (let round = 0; round < rounds; round++) {
    if (benchCase.native && skip === undefined) {
      const measured = await benchCase.native()
      if (typeof measured === 'number') nativeSamples.push(measured)
      else skip = measured.skip
    }
    const measured = await benchCase.engine()
    if (typeof measured !== 'number') {
      skip = measured.skip
      break
    }
    engineSamples.push(measured)
  }
  const engine = engineSamples.length > 0 ? median(engineSamples) : Number.NaN
  const native = skip === undefined ? (benchCase.native ? median(nativeSamples) : null) : { skip }
  const ratio = typeof native === 'number' ? engine / native : null
  const compared = ratio ?? (native === null ? engine : null)
  return {
    name: benchCase.name,
    unit: benchCase.unit,
    limit: benchCase.limit,
    engine,
    engineSamples,
    native,
    nativeSamples,
    ratio,
    ok: compared === null ? null : compared <= benchCase.limit,
  }
}
