import { EFAULT } from '../../base/errno.ts'
import { PAGE_SIZE } from '../../base/units.ts'
import { fileWrite } from '../../mm/file-io.ts'
import { UserIter } from '../../mm/iov-iter.ts'
import { oneCommand } from '../agent-commands.ts'
import { DANGLING, addressOf, counted } from '../engine-context.ts'
import type { Random } from '../random.ts'
import { arenaRange, bytesText, rangeText, type Range } from '../range.ts'
import type { StepKinds } from '../step-kind.ts'
import { onFile, readBackCommands, readBackOnEngine } from './files.ts'
import { userMemory } from './file-io.ts'

/** Writes of many pages at once, which make large folios in the cache of a disk file. */
export type BulkStep = { readonly op: 'bulk'; readonly file: number; readonly offset: number } & Range

/** pages into a file where a write begins at most */
const FARTHEST = 700

export const bulkSteps: StepKinds<BulkStep> = {
  bulk: {
    ...onFile,
    make(generation, { files }) {
      const { random, disks } = generation
      const onDisk = files.filter((each) => disks.has(each))
      if (onDisk.length === 0) return null
      const file = random.pick(onDisk)
      const disk = disks.get(file)!
      // a gap before it would be read ahead
      const farthest = Math.min(disk.size, FARTHEST * PAGE_SIZE)
      const page = Math.min(firstPage(random) * PAGE_SIZE, Math.floor(farthest / PAGE_SIZE) * PAGE_SIZE)
      const offset = random.chance(85) ? page : random.below(farthest + 1)
      const pages = random.chance(35)
        ? random.between(2, 40)
        : random.pick([511, 512, 512, 512, 513, 600, 1024])
      const length = pages * PAGE_SIZE - (random.chance(15) ? random.below(PAGE_SIZE) : 0)
      const { at } = generation.place() ?? generation.range()
      disk.size = Math.max(disk.size, offset + length)
      disk.bulk = true
      return { op: 'bulk', file, offset, at, length }
    },
    text: (step) => `pwrite file ${step.file} at ${bytesText(step.offset)} from ${rangeText(step)}`,
    commands: (step) => oneCommand(`sys pwrite64 $f${step.file} ${arenaRange(step)} ${step.offset}`),
    settle({ file, offset, length }, script) {
      const disk = script.disks.get(file)
      if (disk !== undefined) disk.size = Math.max(disk.size, offset + length)
      return readBackCommands(file, script)
    },
    run(engine, self, { file, at, length, offset }) {
      const open = self.files.get(file)
      if (open === undefined) return DANGLING
      const memory = userMemory(addressOf(engine, at), length)
      if (memory === null) return counted(-EFAULT)
      const iter = new UserIter(engine.k, self.space, [memory])
      const done = self.run(fileWrite(engine.k, open, offset, iter))
      readBackOnEngine(engine, open.mapping)
      return counted(done)
    },
  },
}

function firstPage(random: Random): number {
  return random.pick([0, 0, 0, 512, 1, 256, random.below(FARTHEST)])
}
