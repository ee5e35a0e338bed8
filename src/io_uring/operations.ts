import type { Kernel } from '../mm/kernel.ts'
import {
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  type Issue,
  type Request,
} from './request.ts'
import { issueNop, prepareNop } from './nop.ts'
import { issueRead, issueWrite, prepareFixed, preparePlain } from './rw.ts'

/** `struct io_issue_def`: what an operation is made of. */
export interface Operation {
  readonly needsFile: boolean
  /** may take its memory from a group of provided buffers */
  readonly bufferSelect: boolean
  /** Looks at the entry, before the request counts as tried. @returns 0 or a negative errno */
  readonly prepare: (k: Kernel, request: Request) => number
  readonly issue: Issue
}

const operations = new Map<number, Operation>([
  [IORING_OP_NOP, { needsFile: false, bufferSelect: false, prepare: prepareNop, issue: issueNop }],
  [IORING_OP_READ_FIXED, { needsFile: true, bufferSelect: false, prepare: prepareFixed, issue: issueRead }],
  [IORING_OP_WRITE_FIXED, { needsFile: true, bufferSelect: false, prepare: prepareFixed, issue: issueWrite }],
  [IORING_OP_READ, { needsFile: true, bufferSelect: true, prepare: preparePlain, issue: issueRead }],
  [IORING_OP_WRITE, { needsFile: true, bufferSelect: false, prepare: preparePlain, issue: issueWrite }],
])

/** The operation with this number; null outside the model. */
export function operation(opcode: number): Operation | null {
  return operations.get(opcode) ?? null
}
