import { build } from 'esbuild'
import { execFileSync } from 'node:child_process'
import { chmodSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

// From empty, so that a file removed from src/ does not live on in the package.
const root = fileURLToPath(new URL('..', import.meta.url))
rmSync(`${root}/dist`, { recursive: true, force: true })
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
try {
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
} catch {
  process.exit(1)
}

// The command starts from a few files instead of some 500, which halves the time of a short `explain`. Only the
// workers of conform load the engine file by file: that is how its coverage finds the rules.
rmSync(`${root}/dist/cli`, { recursive: true })
await build({
  absWorkingDir: root,
  entryPoints: ['src/cli/main.ts', 'src/cli/background.ts'],
  outdir: 'dist/cli',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: true,
  legalComments: 'eof',
  logLevel: 'warning',
  // packages in CommonJS ask for Node's modules with require()
  banner: {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
  },
})
chmodSync(`${root}/dist/cli/main.js`, 0o755)
