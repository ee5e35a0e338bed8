import { answerJsonSchema } from '../../src/explain/answer.ts'
import { snapshotJsonSchema } from '../../src/host/snapshot.ts'

/** Every shipped JSON schema: path from the root of the checkout, and its text. */
export function schemaFiles(): Map<string, string> {
  const text = (schema: object): string => `${JSON.stringify(schema, null, 2)}\n`
  return new Map([
    ['schema/snapshot.schema.json', text(snapshotJsonSchema())],
    ['schema/answer.schema.json', text(answerJsonSchema())],
  ])
}
