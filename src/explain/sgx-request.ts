import { SGX_SECINFO_R, SgxEnclave, secinfoOf } from '../arch/x86/sgx-ioctl.ts'
import { PAGE_SIZE } from '../base/units.ts'
import { untried } from './device-requests.ts'
import { allOrNothing, type Request } from './request.ts'

/** SGX_IOC_ENCLAVE_ADD_PAGES: the range is copied into an enclave that is large enough. */
export const addPages: Request = {
  name: 'sgx:add-pages',
  charges: null,
  takes: [],
  longest: Infinity,
  notes: (_snapshot, release) => [
    'the enclave is created, has room and has none of these pages; nothing stays pinned',
    'mapping the enclave itself executable is EPERM where /dev is mounted noexec',
    ...untried(release),
  ],
  *run(restored, range) {
    const { start, length } = range
    const enclave = new SgxEnclave(restored.kernel)
    yield* enclave.create(2 ** Math.ceil(Math.log2(Math.max(length, PAGE_SIZE))))
    const args = { src: start, offset: 0, length, secinfo: secinfoOf('reg', SGX_SECINFO_R) }
    return allOrNothing(restored, range, yield* enclave.addPages(args))
  },
}
