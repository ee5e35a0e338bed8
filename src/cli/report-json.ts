import type { Answer } from '../explain/answer.ts'

/** For machines: `schema/answer.schema.json` describes it. */
export function reportJson(answer: Answer): string {
  return `${JSON.stringify(answer, null, 2)}\n`
}
