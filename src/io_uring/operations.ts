import type { Kernel } from '../mm/kernel.ts'
import { issueRecv, issueSend, issueSendZc, prepareRecv, prepareSend, prepareSendZc } from './net.ts'
import { issueNop, prepareNop } from './nop.ts'
import {
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_READV_FIXED,
  IORING_OP_READ_FIXED,
  IORING_OP_RECV,
  IORING_OP_SEND,
  IORING_OP_SENDMSG_ZC,
  IORING_OP_SEND_ZC,
  IORING_OP_WRITE,
  IORING_OP_WRITEV_FIXED,
  IORING_OP_WRITE_FIXED,
  type Issue,
  type Request,
} from './request.ts'
import { issueRead, issueWrite, prepareFixed, preparePlain, prepareVector } from './rw.ts'

/** `struct io_issue_def`: what an operation is made of. */
export interface Operation {
  /** what `ioprio` is: nothing, an I/O priority, or flags that the operation knows */
  readonly ioprio: 'none' | 'priority' | 'flags'
  /** may take its memory from a group of provided buffers */
  readonly bufferSelect: boolean
  /** Looks at the entry, before the request counts as tried. @returns 0 or a negative errno */
  readonly prepare: (k: Kernel, request: Request) => number
  readonly issue: Issue
}

const transfer = { ioprio: 'priority', bufferSelect: false } as const
const message = { ioprio: 'flags', bufferSelect: false } as const

const operations = new Map<number, Operation>([
  [IORING_OP_NOP, { ioprio: 'none', bufferSelect: false, prepare: prepareNop, issue: issueNop }],
  [IORING_OP_READ_FIXED, { ...transfer, prepare: prepareFixed, issue: issueRead }],
  [IORING_OP_WRITE_FIXED, { ...transfer, prepare: prepareFixed, issue: issueWrite }],
  [IORING_OP_READ, { ...transfer, bufferSelect: true, prepare: preparePlain, issue: issueRead }],
  [IORING_OP_WRITE, { ...transfer, prepare: preparePlain, issue: issueWrite }],
  [IORING_OP_SEND, { ...message, bufferSelect: true, prepare: prepareSend, issue: issueSend }],
  [IORING_OP_RECV, { ...message, bufferSelect: true, prepare: prepareRecv, issue: issueRecv }],
  [IORING_OP_SEND_ZC, { ...message, prepare: prepareSendZc, issue: issueSendZc }],
  [IORING_OP_SENDMSG_ZC, { ...message, prepare: prepareSendZc, issue: issueSendZc }],
  [IORING_OP_READV_FIXED, { ...transfer, prepare: prepareVector, issue: issueRead }],
  [IORING_OP_WRITEV_FIXED, { ...transfer, prepare: prepareVector, issue: issueWrite }],
])

/** The operation with this number; null outside the model. */
export function operation(opcode: number): Operation | null {
  return operations.get(opcode) ?? null
}
