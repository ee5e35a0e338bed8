/** Writes the JSON schemas that the package ships: `npx tsx scripts/schema.ts`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { snapshotJsonSchema } from '../src/host/snapshot.ts'

const schemas: Readonly<Record<string, () => object>> = {
  snapshot: snapshotJsonSchema,
}

const directory = fileURLToPath(new URL('../schema/', import.meta.url))
mkdirSync(directory, { recursive: true })
for (const [name, make] of Object.entries(schemas)) {
  writeFileSync(`${directory}${name}.schema.json`, `${JSON.stringify(make(), null, 2)}\n`)
}
