/** Requests of other processes and of guests: process_vm_*, ptrace, KVM. Columns as in acceptance.test.ts. */
import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/base/units.ts'
import { answerTo, row, type Request } from './asking.ts'
import { A, SHARED_RW, fileOn, memfd, type MappingSpec } from './snapshots.ts'

const P = PAGE_SIZE
const READV: Request = { name: 'process_vm:readv' }
const WRITEV: Request = { name: 'process_vm:writev' }
const PEEK: Request = { name: 'ptrace:peek' }
const POKE: Request = { name: 'ptrace:poke' }
const MEMSLOT: Request = { name: 'kvm:memslot' }
const readOnly: MappingSpec = { flags: 'rd mr mw me ac', look: [['anon', 4]] }
const none: MappingSpec = { flags: 'mr mw me ac', look: [['anon', 4]] }
const roShared: MappingSpec = { backing: memfd, flags: 'rd sh mr ms' }

describe('other processes', () => {
  it('read and write ordinary memory, files and memfds, and charge nothing', () => {
    const kinds: MappingSpec[] = [
      { look: [['anon', 4]] },
      { backing: memfd, flags: SHARED_RW },
      { backing: fileOn('ext4'), flags: SHARED_RW },
    ]
    for (const request of [READV, WRITEV, PEEK, POKE])
      for (const kind of kinds) expect(row([kind], request)).toBe('0 0 0 0 0')
    const answer = answerTo({ mappings: [{ look: [['anon', 4]] }] }, READV)
    expect([answer.memlock, answer.pinned]).toEqual([null, { pages: 4, hugePages: 0 }])
    expect(answer.assumptions.join()).toContain('same user, or CAP_SYS_PTRACE')
  })

  it('R-PTR-8 Yama is asked as the machine has it set', () => {
    const ask = (ptraceScope: number, request: Request) =>
      answerTo({ mappings: [{ look: [['anon', 4]] }], ptraceScope }, request)
    expect(ask(0, READV).assumptions.join()).not.toContain('ptrace_scope')
    for (const scope of [1, 2]) {
      expect(ask(scope, PEEK).verdict).toMatchObject({ ok: true })
      expect(ask(scope, PEEK).assumptions.join()).toContain(`ptrace_scope is ${scope}`)
    }
    expect([READV, PEEK].map((request) => ask(3, request).verdict)).toMatchObject([
      {
        ok: false,
        errno: 'EPERM',
        rule: 'R-PVM-1.8',
        reason: expect.stringContaining('ptrace_scope is 3') as string,
      },
      {
        ok: false,
        errno: 'EPERM',
        rule: 'R-PTR-2',
        reason: expect.stringContaining('ptrace_scope is 3') as string,
      },
    ])
  })

  it('a seccomp filter is told of where the process itself makes the request', () => {
    const told = (seccomp: number, request: Request): string =>
      answerTo({ mappings: [{ look: [['anon', 4]] }], seccomp }, request).assumptions.join()
    const register = { name: 'io_uring:register-buffers' } as const
    expect([0, 1, 2].map((seccomp) => /seccomp (mode|filter)/.exec(told(seccomp, register))?.[0])).toEqual([
      undefined,
      'seccomp mode',
      'seccomp filter',
    ])
    expect(told(2, READV)).not.toContain('seccomp')
  })

  it('R-PVM-3 R-PTR-2 only ptrace has force: it writes read-only memory and reads what nobody may', () => {
    expect([READV, WRITEV, PEEK, POKE].map((request) => row([readOnly], request))).toEqual([
      '0 0 0 0 0',
      'fa fa fa fa fa',
      '0 0 0 0 0',
      '0 0 0 0 0',
    ])
    expect([READV, PEEK].map((request) => row([none], request))).toEqual(['fa fa fa fa fa', '0 0 0 0 0'])
    expect(row([roShared], POKE)).toBe('EIO EIO EIO EIO EIO')
    expect(answerTo({ mappings: [roShared] }, POKE).verdict).toMatchObject({
      chain: [{ rule: 'R-PTR-3' }, { errno: 'EFAULT' }],
    })
  })

  it('R-PVM-2 a hole in the middle gives a short count, which is no success', () => {
    const answer = answerTo({ mappings: [{ look: [['anon', 4]] }] }, { ...READV, pages: 8 })
    expect(answer.verdict).toMatchObject({ ok: false, rule: 'R-GUP-15', page: 4 })
    expect(answerTo({ mappings: [{ look: [['anon', 4]] }] }, { ...PEEK, pages: 8 }).verdict).toMatchObject({
      errno: 'EIO',
      page: 4,
    })
  })

  it('goes on over more than one call', () => {
    expect(answerTo({ mappings: [{ pages: 1200 }] }, { ...WRITEV, pages: 1200 })).toMatchObject({
      verdict: { ok: true },
      faultedIn: 1200,
    })
  })
})

describe('guests', () => {
  it('R-KVM-9 R-KVM-7 the slot may be anything; the guest faults where nothing is', () => {
    expect(answerTo({ mappings: [{ look: [['anon', 4]] }] }, MEMSLOT)).toMatchObject({
      verdict: { ok: true },
      memlock: null,
    })
    const hole = answerTo({ mappings: [{ look: [['anon', 4]] }] }, { ...MEMSLOT, pages: 8 })
    expect(hole.verdict).toMatchObject({
      errno: 'EFAULT',
      page: 4,
      chain: [{ rule: 'R-KVM-7' }, { rule: 'R-GUP-15' }],
    })
    expect(answerTo({ mappings: [{}] }, { ...MEMSLOT, length: 100 }).verdict).toMatchObject({
      errno: 'EINVAL',
      rule: 'R-KVM-9',
    })
    expect(answerTo({ mappings: [{}] }, { ...MEMSLOT, iova: 100 }).verdict.rule).toBe('R-KVM-9')
  })

  it('R-KVM-3 read-only memory is for a guest that reads; short pins take what long-term pins refuse', () => {
    expect([row([readOnly], MEMSLOT), row([readOnly], { ...MEMSLOT, access: 'read' })]).toEqual([
      'fa fa fa fa fa',
      '0 0 0 0 0',
    ])
    expect(row([{ backing: fileOn('ext4'), flags: SHARED_RW }], MEMSLOT)).toBe('0 0 0 0 0')
    expect(answerTo({ mappings: [{ start: A, pages: 3 }] }, { ...MEMSLOT, pages: 3 }).faultedIn).toBe(3)
    expect(P).toBe(4096)
  })
})
