import { memfdSecret } from '../../mm/secretmem.ts'
import { oneCommand } from '../agent-commands.ts'
import { OK, answer } from '../engine-context.ts'
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
      const made = self.runNow(() => memfdSecret(engine.k, flags))
      if (typeof made === 'number') return answer(engine, made)
      self.files.set(file, made)
      return OK
    },
  },
}
