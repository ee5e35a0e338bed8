/**
 * `pinscope/explain`: would this pin request succeed on that process, and if not, why? Needs Node.
 *
 * ```ts
 * import { AnswerSchema, explain } from 'pinscope/explain'
 *
 * const answer = explain({ pid: process.pid, range: '[heap]', request: 'gup:pin', release: 'host' })
 * AnswerSchema.parse(answer).schemaVersion // => 1
 * answer.verdict.ok // true, false, or null when it cannot be determined
 * ```
 *
 * The answer is what `pinscope explain --json` prints; its JSON schema ships as
 * `pinscope/schema/answer.schema.json`.
 */
export { explain } from './explain.ts'
export type { ExplainOptions } from './explain.ts'
export { ANSWER_SCHEMA_VERSION } from './answer-version.ts'
export { AnswerSchema, answerJsonSchema } from './answer.ts'
export type { Answer, Verdict } from './answer.ts'
export { requests } from './requests.ts'
