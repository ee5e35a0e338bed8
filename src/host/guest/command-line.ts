/** What a guest is started with. */
export interface GuestMachine {
  readonly vmlinuz: string
  readonly initramfs: string
  /** ext4 image, or null for a guest without a disk */
  readonly disk: string | null
  /** MiB */
  readonly memory: number
  /** The agent's own options, such as `memlock` (docs/oracle-protocol.md, "Starting"). */
  readonly options: Readonly<Record<string, string | number | true>>
}

/** File descriptors of QEMU: the agent's lines, and the kernel's messages. */
export const AGENT_FD = 3
export const CONSOLE_FD = 4

/** The port's name in the guest: first port of the first virtio serial device. */
const PORT = '/dev/vport0p1'

/**
 * The kernel's own words. Mitigations cost time under emulation and change nothing that is observed; a panic
 * ends the guest at once.
 */
const KERNEL_WORDS = [
  'console=ttyS0',
  // warnings and worse: they are what is left of a guest that dies
  'loglevel=5',
  'panic=-1',
  'oops=panic',
  'mitigations=off',
  'random.trust_cpu=on',
  'random.trust_bootloader=on',
  'cryptomgr.notests',
  'tsc=reliable',
  // off by default before 6.5
  'secretmem.enable=1',
]

/**
 * Arguments of qemu-system-x86_64 for plain emulation: one processor, no network, no display, the kernel's
 * messages on the serial line and the protocol on a virtio port, which is some eight times as fast as a serial
 * line that is emulated byte by byte.
 *
 * The second processor that could be plugged in keeps QEMU from translating a locked instruction into a load
 * and a store: such a write to an untouched page would be a read fault and then a write fault.
 */
export function qemuArguments({ vmlinuz, initramfs, disk, memory, options }: GuestMachine): string[] {
  const words = [...KERNEL_WORDS, `pinscope.console=${PORT}`]
  for (const [name, value] of Object.entries(options))
    words.push(value === true ? `pinscope.${name}` : `pinscope.${name}=${value}`)
  const drive =
    disk === null
      ? []
      : ['-drive', `file=${disk.replaceAll(',', ',,')},format=raw,if=virtio,snapshot=on,cache=unsafe`]
  const agent = `socket,id=agent,fd=${AGENT_FD}`
  const console = `socket,id=console,fd=${CONSOLE_FD}`
  const port = 'virtserialport,chardev=agent,name=pinscope'
  return [
    // mem-merge=off: a guest's gigabyte must not keep the host's KSM busy while a test waits for it
    '-nodefaults -no-user-config -display none -no-reboot -machine pc,mem-merge=off -accel tcg -smp 1,maxcpus=2'.split(
      ' ',
    ),
    ['-m', String(memory), '-kernel', vmlinuz, '-initrd', initramfs, '-append', words.join(' ')],
    ['-chardev', agent, '-device', 'virtio-serial-pci,max_ports=2', '-device', port],
    ['-chardev', console, '-serial', 'chardev:console'],
    drive,
  ].flat()
}
