import { describe, expect, it } from 'vitest'
import { PAGE_SIZE as P, TASK_SIZE } from '../../src/base/units.ts'
import { openIoUring } from '../../src/io_uring/facade.ts'
import { ADDR_COMPAT_LAYOUT, MAP_STACK, MCL_FUTURE, READ_IMPLIES_EXEC } from '../../src/mm/mman.ts'
import { mlockall } from '../../src/mm/mlock.ts'
import { regularFileKind } from '../../src/mm/file.ts'
import { createFile } from '../../src/mm/filemap.ts'
import type { ExecImage } from '../../src/mm/exec-mm.ts'
import { presentPfn } from '../../src/mm/user-access.ts'
import { vmFlagMnemonics } from '../../src/mm/vm-flags.ts'
import type { Vma } from '../../src/mm/vma.ts'
import { Machine } from '../../src/task/machine.ts'
import type { Process } from '../../src/task/process.ts'
import { SignalError } from '../../src/task/signal-error.ts'
import { watchMachine } from '../support/kernel.ts'
import { RELEASES, outcome } from './remote-rig.ts'

const UNREADABLE = { unreadable: true } as const

function vmas(process: Process): Vma[] {
  const guard = process.mm!.mmapLock.tryRead()!
  const all: Vma[] = []
  for (let vma = guard.vmas.first; vma !== null; vma = vma.next) all.push(vma)
  guard.release()
  return all
}

function names(process: Process): string[] {
  const { startStack } = process.mm!
  return vmas(process).map((vma) => {
    const name = vma.specialName ?? (startStack >= vma.start && startStack < vma.end ? '[stack]' : '')
    return `${vma.start.toString(16)}+${vma.pages} ${vmFlagMnemonics(vma.flags, 0).join(' ')} ${name}`.trim()
  })
}

/** The C string at an address. */
function text(process: Process, address: number): string {
  const bytes: number[] = []
  for (let at = address; ; at++) {
    const [byte] = process.load(at, 1)
    if (byte === 0) return String.fromCharCode(...bytes)
    bytes.push(byte!)
  }
}

function word(process: Process, address: number): number {
  const view = new DataView(process.load(address, 8).buffer)
  return view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32
}

describe.each(RELEASES)('exec on %s', (release) => {
  const spawn = (limits = {}): { machine: Machine; app: Process } => {
    const machine = watchMachine(new Machine({ release, memory: '64M', checkStaleVmas: true }))
    return { machine, app: machine.spawn('app', { limits }) }
  }
  const strings = (total: number): string[] => {
    const all: string[] = []
    for (let left = total; left > 0; left -= 100_000) all.push('a'.repeat(Math.min(left, 100_000) - 1))
    return all
  }

  it('R-AS-30 where mappings go: below the stack, or bottom up from a third of the addresses', () => {
    const { app } = spawn()
    const layout = (
      personality: number,
      stack: string,
    ): { lowest: number; highest: number; next: number } => {
      app.personality = personality
      app.setLimit('stack', stack)
      app.exec({ path: '/bin/x' })
      const others = vmas(app).slice(0, -1)
      const [lowest, highest] = [others[0]!.start, others.at(-1)!.end]
      return { lowest, highest, next: app.mmap({ length: P }) }
    }
    const down = layout(0, '8M')
    expect([down.highest, down.next]).toEqual([TASK_SIZE - (128 << 20), down.lowest - P])
    const up = layout(ADDR_COMPAT_LAYOUT, '8M')
    expect([up.lowest, up.next]).toEqual([Math.ceil(TASK_SIZE / 3 / P) * P, up.highest])
    // a stack that may grow far keeps its room, with the guard gap
    expect(layout(0, '1G').highest).toBe(TASK_SIZE - 2 ** 30 - 256 * P)
  })

  it('R-AS-155 everything goes, a stack of 33 pages comes', () => {
    const { app } = spawn()
    app.touch(app.mmap({ length: 8 * P }), 8 * P)
    app.exec({ path: '/bin/x' })
    const top = TASK_SIZE
    expect(names(app).at(-1)).toBe(`${(top - 33 * P).toString(16)}+33 rd wr mr mw me gd ac [stack]`)
    expect([app.mm!.stackVm, app.mm!.rssAnon, app.mm!.dataVm]).toEqual([33, 1, 0])
    expect(app.kernel.mms.size).toBe(1)
  })

  it('R-AS-156 the program, its heap, vvar and vdso', () => {
    const { machine, app } = spawn()
    const file = createFile(machine.kernel, regularFileKind('ext4'), { path: '/bin/x', size: 8 * P })
    const image: ExecImage = {
      segments: [
        { start: 0x400000, length: 4 * P, prot: 5, file, offset: 0 },
        { start: 0x404000, length: 2 * P, prot: 3, file, offset: 4 * P },
        { start: 0x406000, length: P, prot: 3, file: null, offset: 0 },
      ],
      startBrk: 0x407000,
      code: [0x400000, 0x403800],
      data: [0x404000, 0x405100],
    }
    app.exec({ path: '/bin/x', image })
    file.put()
    expect(names(app).slice(0, 3)).toEqual([
      '400000+4 rd ex mr mw me',
      '404000+2 rd wr mr mw me ac',
      '406000+1 rd wr mr mw me ac',
    ])
    const special = names(app)
      .slice(3, -1)
      .map((line) => line.split('+')[1])
    expect(special).toEqual([
      '4 rd mr pf io de dd [vvar]',
      ...(release === '6.18' ? ['2 rd mr pf io de dd [vvar_vclock]'] : []),
      '2 rd ex mr mw me de [vdso]',
    ])
    expect(app.brk(0)).toBe(0x407000)
    expect(app.brk(0x408000)).toBe(0x408000)
    expect(app.mm!.dataSegment).toBe(0x1100)
  })

  it('R-EXE-1, R-EXE-2 strings, pointers and argc', () => {
    const { app } = spawn()
    app.exec({ path: '/bin/prog', argv: ['prog', 'two'], envp: ['A=1'] })
    const { startStack, argStart, argEnd, envStart, envEnd } = app.mm!
    expect(word(app, startStack)).toBe(2)
    expect([1, 2, 4].map((i) => text(app, word(app, startStack + 8 * i)))).toEqual(['prog', 'two', 'A=1'])
    expect([word(app, startStack + 24), word(app, startStack + 40)]).toEqual([0, 0])
    // the name of the program comes first, a pointer below the end of the stack
    expect([text(app, envEnd), envEnd]).toEqual(['/bin/prog', TASK_SIZE - 8 - '/bin/prog\0'.length])
    expect([argEnd - argStart, envEnd - envStart, argEnd]).toEqual([9, 4, envStart])
    expect(text(app, envEnd)).toBe('/bin/prog')
    app.exec({ path: 'x', argv: [] })
    expect(word(app, app.mm!.startStack)).toBe(1)
    expect(text(app, word(app, app.mm!.startStack + 8))).toBe('')
  })

  it('R-EXE-3 the limit, exact to the byte', () => {
    for (const [stack, limit] of [
      [1 << 20, 262_144],
      [512 << 10, 131_072],
    ] as const) {
      const { app } = spawn({ stack })
      const path = '/x'
      // filename 3 bytes, 8 for each pointer
      const room = (n: number): string[] => {
        const count = Math.ceil(n / 100_000)
        return strings(n - 3 - 8 * count)
      }
      const most = room(limit)
      expect(outcome(() => app.exec({ path, argv: [...most.slice(0, -1), `${most.at(-1)!}b`] }))).toBe(
        '-E2BIG',
      )
      expect(outcome(() => app.exec({ path, argv: most }))).toBe(undefined)
    }
  })

  it('R-EXE-9 the pages the strings were copied to are held by the mapping alone', () => {
    const { app } = spawn()
    app.exec({ path: '/bin/prog', argv: ['prog', 'a'.repeat(3 * P)] })
    const { mm, kernel: k } = app
    const pfns = new Set<number>()
    for (let at = mm!.argStart; at < mm!.envEnd; at += P) pfns.add(presentPfn(mm!, at))
    expect(pfns.size).toBeGreaterThan(3)
    for (const pfn of pfns) expect([pfn > 0, k.memory.frames.refcount[pfn]]).toEqual([true, 1])
    expect(k.pinAcquired).toBe(0)
  })

  it('R-EXE-4 one string', () => {
    const { app } = spawn()
    expect(outcome(() => app.exec({ path: 'x', argv: ['a'.repeat(131_072)] }))).toBe('-E2BIG')
    expect(outcome(() => app.exec({ path: 'x', argv: ['a'.repeat(131_071)] }))).toBe(undefined)
    expect(app.mm!.stackVm).toBe(33 + 32)
  })

  it('R-EXE-5 which error wins', () => {
    const long = 'a'.repeat(131_072)
    const { app } = spawn()
    const exec = (argv: Parameters<Process['exec']>[0]['argv'], envp = argv): unknown =>
      outcome(() => app.exec({ path: 'x', argv: argv!, envp: envp! }))
    expect(exec(UNREADABLE, [])).toBe('-EFAULT')
    expect(exec([], UNREADABLE)).toBe('-EFAULT')
    expect(exec([UNREADABLE, long], [])).toBe('-E2BIG')
    expect(exec([long, UNREADABLE], [])).toBe('-EFAULT')
    expect(exec([UNREADABLE], [long])).toBe('-E2BIG')
    expect(exec([long], [UNREADABLE])).toBe('-EFAULT')
    // nothing has changed
    expect([app.mm!.stackVm, app.kernel.mms.size]).toEqual([0, 1])
  })

  it('R-EXE-6, R-EXE-7 a small RLIMIT_STACK: E2BIG, or too late', () => {
    const { app } = spawn({ stack: 65_536 })
    expect(outcome(() => app.exec({ path: 'x', argv: ['a'.repeat(66_016)] }))).toBe('-E2BIG')
    expect(app.refusal).toMatchObject({
      rule: 'R-EXE-6',
      errno: 7,
      cause: { errno: release === 'gup-v3' ? 14 : 12 },
    })
    app.exec({ path: 'x', argv: ['a'.repeat(30_000)] })
    expect(app.mm!.stackVm).toBe(16)
    const small = spawn({ stack: 4 * P })
    expect(() => small.app.exec({ path: 'x', argv: ['a'.repeat(4 * P - 24)] })).toThrow(SignalError)
    expect(small.app.mm).toBe(null)
  })

  it('R-AS-155 the stack is grown as far as the limit goes', () => {
    for (const [stack, pages] of [
      [8 << 20, 33],
      [132 << 10, 33],
      [64 << 10, 16],
      [12 << 10, 3],
    ] as const) {
      const { app } = spawn({ stack })
      app.exec({ path: 'x' })
      expect(app.mm!.stackVm).toBe(pages)
    }
  })

  it('R-AS-155 locks and READ_IMPLIES_EXEC end, PR_SET_THP_DISABLE and PR_SET_MDWE stay', () => {
    const { app } = spawn()
    app.run(mlockall(app.kernel, app.mm!, MCL_FUTURE))
    app.personality = READ_IMPLIES_EXEC | ADDR_COMPAT_LAYOUT
    app.mm!.thpDisabled = true
    app.mm!.mdwe = true
    app.exec({ path: 'x' })
    expect([app.mm!.defFlags, app.mm!.lockedVm, app.personality]).toEqual([0, 0, ADDR_COMPAT_LAYOUT])
    expect([app.mm!.thpDisabled, app.mm!.mdwe]).toEqual([true, true])
    // searched from below now
    const first = app.mmap({ length: P, flags: MAP_STACK })
    expect(app.mmap({ length: P, flags: MAP_STACK })).toBe(first + P)
  })

  it('R-AS-147 pins outlive the address space; rings close on exec', () => {
    const { machine, app } = spawn()
    const watcher = machine.spawn('watcher')
    const buffer = app.mmap({ length: 4 * P })
    const ring = openIoUring(app, { entries: 1 })
    ring.registerBuffers([{ base: buffer, length: 4 * P }])
    // somebody else has the ring too
    const fd = watcher.install(app.files.get(ring.fd)!.get())
    const old = app.mm!
    app.exec({ path: 'x' })
    expect([old.pinnedVm, machine.pins().length]).toEqual([4, 1])
    watcher.close(fd)
    expect(machine.pins()).toEqual([])
    const again = openIoUring(app, { entries: 1 })
    const page = app.mmap({ length: P })
    again.registerBuffers([{ base: page, length: P }])
    app.exec({ path: 'x' })
    expect(machine.pins()).toEqual([])
    expect(app.files.get(again.fd)).toBe(null)
  })

  it('R-AS-155 descriptors without O_CLOEXEC stay, and so do children', () => {
    const { app } = spawn()
    const fd = app.memfdCreate('m', P)
    const shared = app.mmap({ length: P, fd, shared: true })
    app.store(shared, Uint8Array.of(7))
    const child = app.fork()
    app.exec({ path: 'x' })
    const again = app.mmap({ length: P, fd, shared: true })
    expect([app.load(again, 1)[0], child.load(shared, 1)[0]]).toEqual([7, 7])
  })
})
