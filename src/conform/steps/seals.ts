import { SHMEM } from '../../mm/file.ts'
import { createFile } from '../../mm/filemap.ts'
import {
  MFD_ALLOW_SEALING,
  MFD_NOEXEC_SEAL,
  memfdAddSeals,
  memfdGetSeals,
  sealAsMade,
} from '../../mm/memfd-seals.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, OK, answer, counted } from '../engine-context.ts'
import { bytesText } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import { nameFile, newFile, onFile, smallSize, writeWhole } from './files.ts'

/** Memory files that may be sealed, and their seals. */
export type SealStep =
  /** a memory file, made with MFD_* flags */
  | {
      readonly op: 'sealable'
      readonly file: number
      readonly flags: number
      readonly size: number
      readonly seed: number | null
    }
  /** F_ADD_SEALS; F_GET_SEALS afterwards is what is added up */
  | { readonly op: 'seal'; readonly file: number; readonly seals: number }

const F_ADD_SEALS = 1033
const F_GET_SEALS = 1034
const SEALS = ['SEAL', 'SHRINK', 'GROW', 'WRITE', 'FUTURE_WRITE', 'EXEC']
const SEAL = 1
const SHRINK = 2
const GROW = 4
const WRITE = 8
const FUTURE_WRITE = 16
const EXEC = 32
const UNKNOWN = 64

export const sealSteps: StepKinds<SealStep> = {
  sealable: {
    ...newFile,
    make(generation, process) {
      const file = nameFile(generation, process)
      if (file === null) return null
      const { random } = generation
      generation.sealables.add(file)
      return {
        op: 'sealable',
        file,
        flags: random.chance(90)
          ? MFD_ALLOW_SEALING
          : random.pick([0, MFD_NOEXEC_SEAL, MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING]),
        size: smallSize(generation),
        seed: random.chance(60) ? random.below(256) : null,
      }
    },
    text({ file, flags, size, seed }) {
      const named = [
        ...((flags & MFD_ALLOW_SEALING) === 0 ? [] : ['ALLOW_SEALING']),
        ...((flags & MFD_NOEXEC_SEAL) === 0 ? [] : ['NOEXEC_SEAL']),
      ]
      return `memfd file ${file} of ${bytesText(size)}${seed === null ? ' (holes)' : ''} ${named.join('|') || '0'}`
    },
    commands: ({ file, flags, size, seed }) =>
      oneCommand(`memfd f${file} ${flags} ${size}${seed === null ? '' : ` ${seed}`}`),
    // no such flag
    mayDangle: () => true,
    run(engine, self, { file, flags, size, seed }) {
      const { k } = engine
      const made = createFile(k, SHMEM, { path: `/memfd:f${file} (deleted)`, size })
      const error = self.runNow(() => sealAsMade(k, made.mapping, flags))
      if (error < 0) {
        made.put()
        return answer(engine, error)
      }
      if (seed !== null) self.run(writeWhole(k, made.mapping, seed))
      self.files.set(file, made)
      return OK
    },
  },
  seal: {
    ...onFile,
    make({ random, sealables }, { files }) {
      if (files.length === 0) return null
      const sealable = files.filter((file) => sealables.has(file))
      const others = sealable.length === 0 || random.chance(10)
      if (others && sealable.length === 0 && !random.chance(15)) return null
      const file = random.pick(others ? files : sealable)
      let seals = random.pick([
        WRITE,
        WRITE,
        WRITE,
        FUTURE_WRITE,
        FUTURE_WRITE,
        GROW,
        GROW,
        SHRINK,
        SHRINK,
        0,
      ])
      if (random.chance(25)) seals |= random.pick([SHRINK, GROW, WRITE, FUTURE_WRITE])
      if (random.chance(8)) seals |= random.pick([SEAL, SEAL, EXEC, UNKNOWN])
      return { op: 'seal', file, seals }
    },
    text: ({ file, seals }) => `seal file ${file} ${sealsText(seals)}`,
    commands: ({ file, seals }) => ({
      lines: [`sys fcntl $f${file} ${F_ADD_SEALS} ${seals}`, `sys fcntl $f${file} ${F_GET_SEALS}`],
      result: 0,
      sum: 1,
    }),
    run({ k }, self, { file, seals }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      const done = counted(self.run(memfdAddSeals(k, open, seals)))
      const sealed = memfdGetSeals(k, open)
      return sealed < 0 ? done : { ...done, sum: sealed }
    },
  },
}

function sealsText(seals: number): string {
  const named = SEALS.filter((_, bit) => (seals & (1 << bit)) !== 0)
  if ((seals & ~63) !== 0) named.push(`0x${(seals & ~63).toString(16)}`)
  return named.join('|') || '0'
}
