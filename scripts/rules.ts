import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ruleTables } from './rules/tables.ts'

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')
const check = process.argv.includes('--check')

const { files, unaccounted, ...found } = await ruleTables(root)
const problems = [...found.problems, ...unaccounted]
for (const [file, text] of files) {
  const path = `${root}/${file}`
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue
  if (check) problems.push(`${file} is stale: run \`npm run rules\``)
  else {
    writeFileSync(path, text)
    console.log(`wrote ${file}`)
  }
}
for (const problem of problems) console.error(problem)
process.exitCode = problems.length > 0 ? 1 : 0
