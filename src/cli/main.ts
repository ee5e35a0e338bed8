#!/usr/bin/env node
import { CommanderError } from 'commander'
import { exitOnInterrupt } from './interrupt.ts'
import { buildProgram } from './program.ts'
import { printable } from './terminal.ts'
import { UserError } from './user-error.ts'

/** sysexits' EX_SOFTWARE: neither an answer (0, 1) nor the user's mistake (2). */
const EXIT_BUG = 70

exitOnInterrupt()

try {
  process.exitCode = 0
  await buildProgram().parseAsync()
} catch (error) {
  process.exitCode = exitCodeOf(error)
}

function exitCodeOf(error: unknown): number {
  // commander has printed its line already; --help and --version come this way with 0
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof UserError) {
    console.error(`pinscope: ${printable(error.message)}`)
    return 2
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  console.error(`pinscope: this is a bug in pinscope; please report it with these lines\n${text}`)
  return EXIT_BUG
}
