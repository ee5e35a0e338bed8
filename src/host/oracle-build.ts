import { readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Built, build } from './compile.ts'

const sources = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..', 'oracle')

/**
 * The oracle agent, compiled from the sources that come with the package (built once for each version of them).
 *
 * @rule R-AG-1
 * @returns `{ skip }` where it cannot be built: no C compiler, not Linux on x86-64
 * @throws HostError when it does not compile, or there is no directory to write to
 */
export function buildOracleAgent(): Built {
  if (process.arch !== 'x64') return { skip: 'not x86-64' }
  const names = readdirSync(sources).sort()
  return build({
    name: 'pinscope-agent',
    sources: names.filter((name) => name.endsWith('.c')).map((name) => path.join(sources, name)),
    headers: names.filter((name) => name.endsWith('.h')).map((name) => path.join(sources, name)),
    // A fixed place for everything: static, not position-independent.
    flags: ['-std=gnu11', '-O2', '-Wall', '-static', '-no-pie', '-fno-pie', '-fno-stack-protector'],
  })
}
