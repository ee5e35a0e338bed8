import { describe, expect, test } from 'vitest'
import { errnoName } from '../../src/base/errno.ts'
import { DEV_ZERO } from '../../src/mm/file.ts'
import { SyscallError } from '../../src/task/syscall-error.ts'
import { COUNTER, INT3, NOP, P, PLACE, RELEASES, UprobeRig } from './uprobe-rig.ts'

/** 0 or `'-EINVAL'`. */
function answer(call: () => void): 0 | string {
  try {
    call()
    return 0
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    return `-${errnoName(error.errno)}`
  }
}

const at = '/bin/app:0x1005'

describe.each(RELEASES)('uprobe_events on %s', (release) => {
  class EventRig extends UprobeRig {
    line(text: string): 0 | string {
      return answer(() => this.tool.uprobes.write(text))
    }

    on(event: string): 0 | string {
      return this.#switch(event, true)
    }

    off(event: string): 0 | string {
      return this.#switch(event, false)
    }

    #switch(event: string, on: boolean): 0 | string {
      const [group, name] = event.split('/')
      return answer(() => this.tool.uprobes.enable(group!, name!, on))
    }
  }

  test('R-UPR-2 an event is made, enabled, hit, disabled and deleted', () => {
    const r = new EventRig(release)
    const a = r.map()
    expect([r.line(`p:mine/entry ${at}(0x3010)`), r.byte(a + PLACE)]).toEqual([0, NOP])
    expect(r.tool.uprobes.events).toEqual(['p:mine/entry /bin/app:0x0000000000001005(0x3010)'])
    expect([r.on('mine/entry'), r.on('mine/entry'), r.byte(a + PLACE)]).toEqual([0, 0, INT3])
    r.app.uprobes.swbp(a + PLACE)
    expect(r.tool.uprobes.trace).toEqual([
      { group: 'mine', event: 'entry', pid: r.app.pid, address: a + PLACE },
    ])
    expect(r.line('-:mine/entry')).toBe('-EBUSY')
    expect([r.off('mine/entry'), r.off('mine/entry'), r.byte(a + PLACE)]).toEqual([0, 0, NOP])
    expect([r.line('-:mine/entry'), r.tool.uprobes.events]).toEqual([0, []])
    expect([r.line('-:mine/entry'), r.on('mine/entry')]).toEqual(['-ENOENT', '-ENOENT'])
  })

  test.each([
    ['p:g/e /bin/none:1', '-ENOENT'],
    ['p:g/e /dev/zero:1', '-EINVAL'],
    ['p:zz', '-EINVAL'],
    ['p /bin/app', '-EINVAL'],
    ['p:g/e /bin/app:', '-EINVAL'],
    ['p:g/e /bin/app:zz', '-EINVAL'],
    ['p:g/e /bin/app:-1', '-EINVAL'],
    ['p:g/e /bin/app:0x10(zz)', '-EINVAL'],
    ['p:g/e /bin/app:0x10(4', '-EINVAL'],
    ['q:g/e /bin/app:1', '-EINVAL'],
    ['p:1g/e /bin/app:1', '-EINVAL'],
    ['p:g/e-f /bin/app:1', '-EINVAL'],
    ['p:/e /bin/app:1', '-EINVAL'],
    ['p: /bin/app:1', '-EINVAL'],
    ['-:', '-EINVAL'],
    ['-:g/e', '-ENOENT'],
    ['', 0],
    // R-UPR-4: whether the place exists is looked at when it is enabled
    ['p:g/e /bin/app:0x999999', 0],
    ['p:g/e /bin/app:0x10(0)', 0],
    ['p:g/e /bin/app:0x10(0x11)', 0],
  ] as const)('R-UPR-2 writing %j: %s', (line, expected) => {
    const r = new EventRig(release)
    r.tool.openFile('/dev/zero', 0, DEV_ZERO)
    expect(r.line(line)).toBe(expected)
  })

  test('R-UPR-2 names that are left out', () => {
    const r = new EventRig(release)
    r.tool.openFile('/tmp/a_b.so', P)
    for (const line of [`p ${at}`, 'p:one /tmp/a_b.so:16', 'p:g/ /tmp/a_b.so:16']) r.line(line)
    expect(r.tool.uprobes.events.map((line) => line.split(' ')[0])).toEqual([
      'p:uprobes/p_app_0x1005',
      'p:uprobes/one',
      'p:g/p_a_0x10',
    ])
    expect([r.line('-:one'), r.tool.uprobes.events.length]).toEqual([0, 2])
  })

  test('R-UPR-2 a place of two events has one counter, an event may have two places', () => {
    const r = new EventRig(release)
    const a = r.map()
    expect(['p:g/e ', 'p:g/f '].map((start) => r.line(`${start}${at}(0x3010)`))).toEqual([0, 0])
    expect([r.line(`p:g/h ${at}`), r.line(`p:g/h ${at}(0x3020)`)]).toEqual(['-EINVAL', '-EINVAL'])
    expect([r.line(`p:g/e ${at}(0x3010)`), r.line('p:g/e /bin/app:0x1009')]).toEqual(['-EEXIST', 0])
    const counter = r.mapCounter()
    expect([r.on('g/e'), r.on('g/f'), r.count(counter)]).toEqual([0, 0, 1])
    expect([r.byte(a + PLACE), r.byte(a + PLACE + 4)]).toEqual([INT3, INT3])
    // a place that comes later waits for the next time
    expect([r.line('p:g/e /bin/app:0x100b'), r.byte(a + PLACE + 6)]).toEqual([0, NOP])
    expect([r.off('g/e'), r.byte(a + PLACE), r.byte(a + PLACE + 4)]).toEqual([0, INT3, NOP])
    expect([r.off('g/f'), r.byte(a + PLACE), r.count(counter)]).toEqual([0, NOP, 0])
    expect([r.on('g/e'), r.byte(a + PLACE + 6), r.off('g/e')]).toEqual([0, INT3, 0])
  })

  test('R-UPR-4 what is wrong with a place comes out when it is enabled, and undoes the others', () => {
    const r = new EventRig(release)
    const a = r.map()
    r.line(`p:g/e ${at}`)
    r.line('p:g/e /bin/app:0x999999')
    expect([r.on('g/e'), r.tool.refusal?.rule, r.byte(a + PLACE)]).toEqual(['-EINVAL', 'R-UPR-4', NOP])
    expect([r.line('p:g/odd /bin/app:8(0x11)'), r.on('g/odd')]).toEqual([0, '-EINVAL'])
    r.app.write(r.fd, new Uint8Array([INT3]), 12)
    expect([r.line('p:g/trap /bin/app:12'), r.on('g/trap')]).toEqual([0, '-ENOTSUPP'])
    expect([r.line('-:g/e'), r.line('-:g/odd'), r.line('-:g/trap')]).toEqual([0, 0, 0])
    expect(COUNTER).toBe(0x3010)
  })

  test('R-UPR-7 disabling reports success although the uprobe leaks', () => {
    const r = new EventRig(release)
    const a = r.map()
    const counter = r.mapCounter()
    r.line(`p:g/e ${at}(0x3010)`)
    r.on('g/e')
    r.setCount(counter, 0)
    expect([r.off('g/e'), r.byte(a + PLACE), r.line('-:g/e')]).toEqual([0, INT3, 0])
    expect(r.log.includes('failed to unregister, leaking uprobe')).toBe(
      release === '6.12' || release === '6.18',
    )
  })
})

test('R-UPR-2 what is not modelled says so', () => {
  const { tool } = new UprobeRig('6.18')
  for (const line of [`r:g/e ${at}`, `p:g/e ${at}%return`, `p:g/e ${at} %ax`])
    expect(() => tool.uprobes.write(line)).toThrow('R-UPR-2')
})
