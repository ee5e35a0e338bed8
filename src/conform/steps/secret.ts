import { memfdSecret } from '../../mm/secretmem.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK, answer } from '../engine-context.ts'
import type { Kthread } from '../../base/kthread.ts'
import type { OpenFile } from '../../mm/file.ts'
import type { Kernel } from '../../mm/kernel.ts'
import type { StepKinds } from '../step-kind.ts'
import { nameFile, newFile } from './files.ts'

export type SecretStep =
  /** a file of secret memory; it has no size until ftruncate gives it one */
  { readonly op: 'secret'; readonly file: number; readonly flags: number }

export const secretSteps: StepKinds<SecretStep> = {
  secret: {
    ...newFile,
    make(generation, process) {
      const file = nameFile(generation, process)
      return file === null ? null : { op: 'secret', file, flags: generation.random.chance(10) ? 1 : 0 }
    },
    text: ({ file, flags }) => `secret memory file ${file}${flags === 0 ? '' : ` flags ${flags}`}`,
    commands: ({ file, flags }) => oneCommand(`secret f${file} ${flags}`),
    run(engine, self, { file, flags }) {
      const made = self.run(create(engine.k, flags))
      if (typeof made === 'number') return answer(engine, made)
      self.files.set(file, made)
      return OK
    },
  },
}

// oxlint-disable-next-line require-yield -- it never sleeps, and has to be run as the process
function* create(k: Kernel, flags: number): Kthread<OpenFile | number> {
  return memfdSecret(k, flags)
}
