/** The capabilities that rules ask for, each with its bit in the kernel's sets (capabilities(7), /proc/PID/status). */
export const CAPABILITY_BITS = {
  CAP_DAC_OVERRIDE: 1,
  CAP_FOWNER: 3,
  CAP_NET_RAW: 13,
  CAP_IPC_LOCK: 14,
  CAP_IPC_OWNER: 15,
  CAP_SYS_RAWIO: 17,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_NICE: 23,
  CAP_SYS_RESOURCE: 24,
} as const

export type Capability = keyof typeof CAPABILITY_BITS

/**
 * The capabilities of a set as /proc/PID/status prints it, 16 hex digits; bits that no rule asks for are left out.
 */
export function capabilitiesOf(hex: string): Set<Capability> {
  const low = Number.parseInt(hex.slice(-8), 16)
  const names = Object.keys(CAPABILITY_BITS) as Capability[]
  return new Set(names.filter((name) => (low & (1 << CAPABILITY_BITS[name])) !== 0))
}
