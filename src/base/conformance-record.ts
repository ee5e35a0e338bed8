import type { ReleaseName } from './release.ts'

/** One finished run of `pinscope conform`, as its closing lines stated it. */
export interface ConformanceRun {
  /** engine release that was compared */
  readonly release: ReleaseName
  /** `uname -r` of the kernel */
  readonly kernel: string
  readonly as: 'root' | 'unprivileged'
  readonly programs: number
  readonly steps: number
  readonly differences: number
  /** of the programs, `--seed` */
  readonly seed: number
  /** YYYY-MM-DD */
  readonly date: string
  /** commit of the engine that was compared */
  readonly commit: string
}

/**
 * The runs on which `verified` rests, over all themes and with seeds nobody had tuned to. A row is added by hand
 * from the closing lines of a run, never without one.
 */
export const conformanceRuns: readonly ConformanceRun[] = [
  {
    release: '6.1',
    kernel: '6.1.0-56-amd64',
    as: 'root',
    programs: 2005,
    steps: 79_570,
    differences: 0,
    seed: 26_132_001,
    date: '2026-11-26',
    commit: 'ed4b02d',
  },
  {
    release: '6.12',
    kernel: '6.12.117+deb12-amd64',
    as: 'root',
    programs: 2005,
    steps: 79_486,
    differences: 0,
    seed: 26_132_501,
    date: '2026-11-26',
    commit: 'ed4b02d',
  },
  {
    release: '6.18',
    kernel: '6.18.44-fc-v782',
    as: 'root',
    programs: 20_000,
    steps: 798_873,
    differences: 0,
    seed: 26_121_001,
    date: '2026-11-26',
    commit: 'a4276e4',
  },
  {
    release: '6.18',
    kernel: '6.18.44-fc-v782',
    as: 'unprivileged',
    programs: 5000,
    steps: 199_727,
    differences: 0,
    seed: 26_125_001,
    date: '2026-11-26',
    commit: '0eb1efd',
  },
]

interface Bar {
  readonly as: ConformanceRun['as']
  readonly programs: number
}

/** Programs without a difference that a release needs; absent: no kernel of it can be asked. */
const bars: Partial<Record<ReleaseName, readonly Bar[]>> = {
  '6.1': [{ as: 'root', programs: 2000 }],
  '6.12': [{ as: 'root', programs: 2000 }],
  '6.18': [
    { as: 'root', programs: 20_000 },
    { as: 'unprivileged', programs: 5000 },
  ],
}

/** Whether recorded runs reach the bar of a release: each part in one run, without a difference. */
export function isVerified(release: ReleaseName, runs: readonly ConformanceRun[] = conformanceRuns): boolean {
  const parts = bars[release]
  return (
    parts !== undefined &&
    parts.every(({ as, programs }) =>
      runs.some(
        (run) =>
          run.release === release && run.as === as && run.differences === 0 && run.programs >= programs,
      ),
    )
  )
}
