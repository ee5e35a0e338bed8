/** Writes the JSON schemas that the package ships; with --check only says whether they are current. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { schemaFiles } from './schema/files.ts'

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')
const check = process.argv.includes('--check')

for (const [file, text] of schemaFiles()) {
  const path = `${root}/${file}`
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue
  if (check) {
    console.error(`${file} is stale: run \`npm run schema\``)
    process.exitCode = 1
  } else {
    mkdirSync(`${root}/schema`, { recursive: true })
    writeFileSync(path, text)
    console.log(`wrote ${file}`)
  }
}
