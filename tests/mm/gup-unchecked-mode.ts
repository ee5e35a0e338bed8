import { useCheckedKernels } from './gup-fixture.ts'

useCheckedKernels(false)
