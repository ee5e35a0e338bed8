/** Breakpoints in files: what the running kernel does with them, and whether the engine does the same. */
import { release } from 'node:os'
import { afterEach, describe, expect, it } from 'vitest'
import { nearestRelease } from '../../src/host/kernel-release.ts'
import { isRoot } from '../host/live.ts'
import {
  COUNTER,
  EngineSide,
  ONE,
  OTHER,
  KernelSide,
  buildAgent,
  firstDifference,
  randomPrograms,
  type Step,
} from './uprobes/lockstep.ts'

const P = 4096
const PLACE = P + ONE
const RX = 5
const RW = 3
const DONTNEED = 4

/** REMOTE vector 50 is not here: it leaves a uprobe in the kernel until it is booted again. */
const programs: Readonly<Record<string, readonly Step[]>> = {
  'REMOTE vector 42: a private mapping, a shared one, the file': [
    ['map', 0, 4, 0, RX, 0],
    ['map', 8, 4, 0, RX, 1],
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['off', 'e'],
  ],
  'REMOTE vector 43: a mapping that comes later, and one that goes': [
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['map', 0, 4, 0, RX, 0],
    ['map', 8, 1, 1, RX, 0],
    ['unmap', 0, 4],
    ['off', 'e'],
    ['map', 0, 4, 0, RX, 0],
  ],
  'REMOTE vector 44: writable, shared and readable mappings': [
    ['map', 0, 3, 0, 7, 0],
    ['map', 4, 3, 0, RX, 1],
    ['map', 8, 3, 0, 1, 0],
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['protect', 0, 3, RX],
    ['protect', 8, 3, 7],
    ['off', 'e'],
  ],
  'REMOTE vector 45: an overwritten breakpoint': [
    ['map', 0, 3, 0, RX, 0],
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['poke', 1, ONE, 0x91],
    ['off', 'e'],
  ],
  'REMOTE vector 46: the instruction is a trap': [
    ['write', PLACE, 0xcc],
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['off', 'e'],
    ['map', 0, 3, 0, RX, 0],
    ['on', 'e'],
    ['write', PLACE, 0xf4],
    ['on', 'e'],
    ['write', PLACE, 0x90],
    ['on', 'e'],
    ['off', 'e'],
  ],
  'REMOTE vector 47: the end of the file and beyond': [
    ['event', 'at', 4 * P, 0],
    ['event', 'beyond', 4 * P + 1, 0],
    ['on', 'beyond'],
    ['on', 'at'],
    ['map', 0, 5, 0, RX, 0],
    ['off', 'at'],
    ['on', 'at'],
  ],
  'REMOTE vector 48: an odd counter, another counter, names': [
    ['event', 'odd', PLACE, 0x11],
    ['on', 'odd'],
    ['event', 'other', PLACE, 0],
    ['delete', 'odd'],
    ['event', 'e', PLACE, COUNTER],
    ['event', 'e', PLACE, COUNTER],
    ['event', 'f', PLACE, COUNTER],
    ['on', 'f'],
    ['delete', 'f'],
    ['off', 'f'],
    ['delete', 'f'],
    ['on', 'f'],
  ],
  'REMOTE vector 49: three mappings count three, a child has its own count': [
    ['map', 12, 1, 3, RW, 0],
    ['map', 0, 3, 0, RX, 0],
    ['map', 4, 3, 0, RX, 0],
    ['map', 8, 3, 0, RX, 0],
    ['event', 'e', PLACE, COUNTER],
    ['event', 'f', PLACE + 4, COUNTER],
    ['on', 'e'],
    ['on', 'f'],
    ['fork'],
    ['off', 'e'],
    ['off', 'f'],
    ['reap'],
  ],
  'R-UPR-13 a page that is private already, another byte of it, two breakpoints in it': [
    ['map', 0, 3, 0, RX, 0],
    ['poke', 1, OTHER, 0x42],
    ['event', 'e', PLACE, 0],
    ['event', 'f', 2 * P + OTHER, 0],
    ['event', 'g', 2 * P + ONE, 0],
    ['on', 'e'],
    ['on', 'f'],
    ['on', 'g'],
    ['off', 'f'],
    ['off', 'e'],
    ['off', 'g'],
  ],
  'R-UPR-21 a counter that would be negative, that overflows, that lies beyond the file': [
    ['map', 0, 3, 0, RX, 0],
    ['map', 12, 1, 3, RW, 0],
    ['event', 'e', PLACE, COUNTER],
    ['poke', 12, 16, 0xfb],
    ['poke', 12, 17, 0xff],
    ['on', 'e'],
    ['poke', 12, 16, 0xff],
    ['poke', 12, 17, 0x7f],
    ['on', 'e'],
    ['poke', 12, 17, 0],
    ['poke', 12, 16, 1],
    ['off', 'e'],
    ['map', 14, 3, 3, RW, 0],
    ['event', 'f', PLACE + 4, 5 * P],
    ['on', 'f'],
  ],
  'R-UPR-22 a counter that comes later': [
    ['map', 0, 3, 0, RX, 0],
    ['event', 'e', PLACE, COUNTER],
    ['on', 'e'],
    ['fork'],
    ['map', 12, 1, 3, 1, 0],
    ['map', 13, 1, 3, RW, 1],
    ['map', 14, 1, 3, RW, 0],
    ['map', 16, 1, 3, RW, 0],
    ['reap'],
    ['unmap', 16, 1],
    ['off', 'e'],
    ['map', 16, 1, 3, RW, 0],
  ],
  'R-UPR-23 a mapping that grows over the counter': [
    ['map', 0, 3, 0, RX, 0],
    ['map', 12, 1, 2, RW, 0],
    ['event', 'e', PLACE, COUNTER],
    ['on', 'e'],
    ['remap', 12, 1, 2, -1],
    ['off', 'e'],
    ['unmap', 12, 2],
    ['map', 12, 2, 2, 1, 0],
    ['on', 'e'],
    ['protect', 12, 1, RW],
    ['protect', 13, 1, RW],
    ['off', 'e'],
  ],
  'R-UPR-24 breakpoints that go with their page': [
    ['map', 12, 1, 3, RW, 0],
    ['map', 0, 3, 0, RX, 0],
    ['event', 'e', PLACE, COUNTER],
    ['on', 'e'],
    ['advise', 1, 1, DONTNEED],
    ['unmap', 0, 2],
    ['map', 4, 3, 0, RX, 0],
    ['advise', 5, 1, DONTNEED],
    ['map', 4, 2, 0, 1, 1],
    ['map', 8, 3, 0, RX, 0],
    ['poke', 9, ONE, 0x91],
    ['unmap', 10, 1],
    ['off', 'e'],
  ],
  'R-UPR-5 a child has the breakpoints, and both get the original back': [
    ['map', 0, 3, 0, RX, 0],
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['fork'],
    ['advise', 1, 1, DONTNEED],
    ['off', 'e'],
    ['reap'],
    ['on', 'e'],
    ['fork'],
    ['off', 'e'],
  ],
  'R-UPR-6 cuts, merges and moves': [
    ['map', 0, 4, 0, RX, 0],
    ['event', 'e', PLACE, 0],
    ['on', 'e'],
    ['advise', 1, 1, DONTNEED],
    ['protect', 3, 1, 1],
    ['poke', 1, ONE, 0x91],
    ['protect', 3, 1, RX],
    ['poke', 1, ONE, 0x91],
    ['lock', 0, 1],
    ['poke', 1, ONE, 0x91],
    ['unlock', 0, 1],
    ['advise', 1, 1, DONTNEED],
    ['remap', 0, 4, 4, 16],
    ['map', 20, 1, 4, RX, 0],
    ['map', 0, 4, 0, 7, 0],
    ['protect', 1, 1, RX],
    ['protect', 0, 1, RX],
    ['off', 'e'],
  ],
}

/** What random programs do is the same in every run. */
const PROGRAMS = Number(process.env['PINSCOPE_UPROBE_PROGRAMS'] ?? 6)
const STEPS = 40

const running = nearestRelease(release())
const built = buildAgent()
const why = !isRoot
  ? 'needs root'
  : process.arch !== 'x64'
    ? 'the program knows x86-64 only'
    : !running.exact
      ? running.note
      : 'skip' in built
        ? built.skip
        : null

if (why !== null || 'skip' in built) it.skip(`uprobes on the running kernel: ${why}`, () => {})
else {
  describe('uprobes on the running kernel', () => {
    let kernel: KernelSide | null = null
    afterEach(() => kernel?.stop())

    const cases: [string, readonly Step[]][] = [
      ...Object.entries(programs),
      ...randomPrograms(running.release, PROGRAMS, STEPS),
    ]
    it.for(cases)('%s', { timeout: 60_000 }, async ([, steps], { skip }) => {
      kernel = await KernelSide.start(built.path)
      if (kernel.skip !== null) skip(kernel.skip)
      expect(await firstDifference(kernel, new EngineSide(running.release), steps)).toBeNull()
    })
  })
}
