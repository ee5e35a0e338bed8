/**
 * What `explain` answers: one object, the same for people and machines. `schema/answer.schema.json` is
 * generated from here.
 */
import * as z from 'zod'
import { ANSWER_SCHEMA_VERSION } from './answer-version.ts'

const address = z
  .string()
  .regex(/^0x[0-9a-f]+$/)
  .describe('user address in hex')
const pages = z.number().int().nonnegative()

const MappingFacts = z
  .object({
    start: address,
    end: address,
    flags: z.array(z.string()).describe('VmFlags mnemonics'),
    backing: z.string().describe('anonymous, shmem, ext4, hugetlbfs, secretmem, …'),
    name: z.string().describe('as /proc/PID/maps names it; empty for none'),
  })
  .describe('the mapping the refused page lies in')

/** One step of the refusal, from the errno the caller sees to the check that decided. */
const ReasonStep = z.object({
  errno: z.string(),
  rule: z.string(),
  sentence: z.string().describe('the rule in one sentence'),
  why: z.string().nullable().describe('which branch of it'),
})

const Verdict = z.object({
  ok: z
    .boolean()
    .nullable()
    .describe('whether the request would succeed; null when it cannot be said (`undecided` tells why)'),
  errno: z.string().nullable(),
  rule: z.string().nullable().describe('the rule that decided'),
  page: z
    .number()
    .int()
    .nonnegative()
    .nullable()
    .describe('index of the first refused page within the request'),
  address: address.nullable().describe('of the first refused page'),
  reason: z.string().nullable().describe('one sentence'),
  mapping: MappingFacts.nullable(),
  chain: z.array(ReasonStep).describe('from what the caller sees to where it was decided'),
  undecided: z.string().nullable(),
})

const Memlock = z.object({
  needed: pages.describe('pages this request would charge'),
  used: pages.describe(
    'pages charged to that budget already; of user->locked_vm a lower bound: the kernel shows it nowhere',
  ),
  limit: pages.nullable().describe('RLIMIT_MEMLOCK of the process in pages; null = unlimited'),
  exempt: z.boolean().describe('CAP_IPC_LOCK: no limit applies'),
  capability: z
    .enum(['effective', 'user-namespace', 'permitted', 'bounding', 'missing', 'not-effective'])
    .describe(
      'how the process has CAP_IPC_LOCK, which counts only where it is effective: effective in a user namespace of its own; permitted, or in the bounding set, and not effective; not at all; not effective, and older snapshots say no more',
    ),
  budget: z
    .enum(['user->locked_vm', 'mm->locked_vm', 'mm->pinned_vm'])
    .describe('which counter is compared with the limit: of all processes of the uid, VmLck, or VmPin'),
  liftedBy: z
    .literal('CAP_IPC_LOCK')
    .nullable()
    .describe('the capability with which no limit applies; null: there is none'),
})

const Hint = z.object({
  text: z.string(),
  verified: z.literal(true).describe('the engine tried it and the request succeeded'),
})

const OtherRelease = z.object({
  release: z.string(),
  verified: z.boolean().describe('a conformance run has passed on that kernel'),
  ok: z.boolean().nullable(),
  errno: z.string().nullable(),
  rule: z.string().nullable(),
  reason: z.string().nullable(),
})

export const AnswerSchema = z.object({
  schemaVersion: z.literal(ANSWER_SCHEMA_VERSION),
  request: z.string().describe('as in --request: io_uring:register-buffers, rdma:reg-mr, gup:pin, …'),
  flags: z.array(z.string()).describe('FOLL_* flags of gup:get and gup:pin'),
  options: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
    .describe('other options the request takes and what they were: access, iova, frameSize, …'),
  range: z.object({
    start: address,
    length: z.number().int().positive(),
    pages,
    note: z.string().nullable(),
  }),
  process: z.object({ pid: z.number().int(), name: z.string(), uid: z.number().int() }),
  release: z.string().describe('the release the verdict is for'),
  releaseNote: z.string().nullable().describe('how the release was chosen'),
  releaseVerified: z.boolean(),
  verdict: Verdict,
  pinned: z
    .object({ pages, hugePages: pages.describe('folios larger than 4 KiB among them') })
    .nullable()
    .describe('what would be pinned; null when the request fails'),
  faultedIn: pages.describe('pages that were absent and would be made resident on the way'),
  copied: pages.describe('pages shared with another process or file that would get a private copy'),
  memlock: Memlock.nullable().describe('null where the request charges nothing'),
  kernelLog: z.array(z.string()).describe('what the kernel writes to its log on the way (dmesg)'),
  hints: z.array(Hint),
  otherReleases: z.array(OtherRelease),
  seen: z.object({
    tier: z.string().describe('what the observer was allowed to read (R-ACC-7)'),
    consistency: z.enum(['stable', 'racy']),
    takenAt: z.string(),
  }),
  assumptions: z.array(z.string()).describe('taken for granted, because no file shows it'),
  unseen: z.array(z.object({ what: z.string(), why: z.string(), needs: z.string() })),
})

export type Answer = z.infer<typeof AnswerSchema>
export type Verdict = Answer['verdict']

export function answerJsonSchema(): object {
  return { title: 'pinscope explain answer', ...z.toJSONSchema(AnswerSchema) }
}
