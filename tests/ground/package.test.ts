import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { root } from './root.ts'

type Locked = { optionalDependencies?: Record<string, string>; hasInstallScript?: boolean; resolved?: string }

const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as {
  allowScripts: Record<string, boolean>
}
const lock = JSON.parse(readFileSync(`${root}/package-lock.json`, 'utf8')) as {
  packages: Record<string, Locked>
}
const packages = Object.entries(lock.packages)

describe('package-lock.json', () => {
  it('holds the builds of native packages for every platform, so that npm ci works on all of them', () => {
    const missing = packages.flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => !lock.packages[`node_modules/${name}`] && !lock.packages[`${path}/node_modules/${name}`],
      ),
    )
    expect(missing).toEqual([])
  })

  it('comes from the public registry', () => {
    const elsewhere = packages.filter(
      ([, { resolved }]) => resolved && !resolved.startsWith('https://registry.npmjs.org/'),
    )
    expect(elsewhere.map(([path]) => path)).toEqual([])
  })

  it('has no install script that package.json has not decided about', () => {
    const undecided = packages
      .filter(([, { hasInstallScript }]) => hasInstallScript)
      .map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
      .filter((name) => !(name in manifest.allowScripts))
    expect(undecided).toEqual([])
  })
})
