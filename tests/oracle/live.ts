/** Agents for the tests: started when needed, stopped when a test is over. */
import { afterEach } from 'vitest'
import { OracleAgent, type OracleAgentOptions } from '../../src/host/oracle-agent.ts'
import { buildOracleAgent } from '../../src/host/oracle-build.ts'
import type { OracleReply } from '../../src/host/oracle-reply.ts'

const built = buildOracleAgent()
/** Why there is no agent on this machine, or null. */
export const noAgent: string | null = 'skip' in built ? built.skip : null
/** What a test that needs privileges lacks: PFNs, kpageflags, hugetlb pool. */
export const noRoot: string | null = noAgent ?? (process.geteuid?.() === 0 ? null : 'not root')

const open: OracleAgent[] = []

/** An agent that is stopped after the test. */
export async function agent(options: OracleAgentOptions = {}): Promise<OracleAgent> {
  const started = await OracleAgent.start(options)
  open.push(started)
  return started
}

afterEach(async () => {
  for (const started of open.splice(0)) await started.stop()
})

/** The reply of the last of these lines. */
export async function last(started: OracleAgent, ...lines: string[]): Promise<OracleReply> {
  const replies = await started.send(lines)
  return replies[replies.length - 1]!
}
