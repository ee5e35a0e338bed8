import { PAGE_SIZE } from '../../base/units.ts'
import { ksmScan } from '../../mm/ksm.ts'
import { madvise } from '../../mm/madvise.ts'
import { MADV_MERGEABLE, MAP_ANONYMOUS, MAP_PRIVATE } from '../../mm/mman.ts'
import { mmap } from '../../mm/mmap.ts'
import { munmap } from '../../mm/munmap.ts'
import { OK } from '../engine-context.ts'
import type { StepKinds } from '../step-kind.ts'

/** ksmd, which nothing else starts. */
export type KsmStep = { readonly op: 'ksm' }

/** as many scans as it takes until another one changes nothing */
const SCANS = 4
const ONE_PAGE = {
  addr: 0,
  length: PAGE_SIZE,
  prot: 3,
  flags: MAP_PRIVATE | MAP_ANONYMOUS,
  file: null,
  offset: 0,
}

export const ksmSteps: StepKinds<KsmStep> = {
  ksm: {
    make: () => ({ op: 'ksm' }),
    text: () => `ksm ${SCANS} scans`,
    // which of several equal frames stays is ksmd's choice: ids begin anew
    commands: () => ({ lines: ['obs 1', `ksm ${SCANS}`, 'obs 5', 'nop'], result: 1, sum: -1 }),
    answer: 'nothing',
    machineWide: () => true,
    run(engine, self) {
      // the agent keeps a page that may be merged as long as ksmd runs, so that there is something to scan
      const page = self.run(mmap(engine.k, self.space, ONE_PAGE))
      self.run(madvise(engine.k, self.space, page, PAGE_SIZE, MADV_MERGEABLE))
      self.run(ksmScan(engine.k, SCANS))
      self.run(munmap(engine.k, self.space, page, PAGE_SIZE))
      engine.forgetFrames()
      return OK
    },
  },
}
