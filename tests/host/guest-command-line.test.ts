import { expect, test } from 'vitest'
import { qemuArguments } from '../../src/host/guest/command-line.ts'

const machine = { vmlinuz: '/k/vmlinuz', initramfs: '/k/i.cpio', disk: null, memory: 512, options: {} }

function after(words: string[], name: string): string[] {
  return words.filter((_, i) => words[i - 1] === name)
}

test('guest QEMU: the agent’s options become words of the kernel’s command line', () => {
  const words = qemuArguments({ ...machine, options: { memlock: 65536, thp: true } })
  const [kernel] = after(words, '-append')
  expect(kernel!.split(' ')).toEqual(
    expect.arrayContaining(['pinscope.memlock=65536', 'pinscope.thp', 'pinscope.console=/dev/vport0p1']),
  )
  expect(after(words, '-m')).toEqual(['512'])
})

test('guest QEMU: a disk is written to a snapshot, and a comma in its path stays part of the path', () => {
  expect(after(qemuArguments(machine), '-drive')).toEqual([])
  const [drive] = after(qemuArguments({ ...machine, disk: '/a,b/disk' }), '-drive')
  expect(drive).toMatch(/^file=\/a,,b\/disk,/)
  expect(drive!.split(',')).toContain('snapshot=on')
})

test('guest QEMU: a locked instruction is one access, which takes a machine that could have two processors', () => {
  expect(after(qemuArguments(machine), '-smp')).toEqual(['1,maxcpus=2'])
})
