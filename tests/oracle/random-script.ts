/** Random steps for the agent, the same for the same seed. */

/** Numbers from a seed (xorshift32). */
export function random(seed: number): (below: number) => number {
  let state = seed | 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const PROTECTIONS = [0, 1, 3, 3, 3]
const ADVICE = [4, 4, 8, 10, 11, 18, 19, 21, 22, 23]

/** One step in a window of 24 pages, so that steps meet each other. */
function step(below: (n: number) => number): string {
  const page = below(24)
  const length = (1 + below(6)) * 4096
  const prot = PROTECTIONS[below(PROTECTIONS.length)]!
  switch (below(13)) {
    case 0:
      return `sys mmap @${page} ${length} ${prot} ${below(4) === 0 ? 0x31 : 0x32} -1 0`
    case 1:
      return `sys mmap @${page} ${length} 3 ${0x12 | (below(2) ? 0x8000 : 0)} $m 0`
    case 2:
      return `sys mmap @${page} ${length} 3 0x11 $m 4096`
    case 3:
      return `sys munmap @${page} ${length}`
    case 4:
      return `sys mprotect @${page} ${length} ${prot}`
    case 5:
      return `sys madvise @${page} ${length} ${ADVICE[below(ADVICE.length)]}`
    case 6:
      return `sys mremap @${page} ${length} ${(1 + below(6)) * 4096} ${below(2) ? 3 : 1} @${24 + below(24)}`
    case 7:
      return `sys mlock @${page} ${length}`
    case 8:
      return `sys munlock @${page} ${length}`
    case 9:
    case 10:
      return `poke @${page} ${below(256)}`
    case 11:
      return `touch r @${page}`
    default:
      return `sum @${page} ${length}`
  }
}

/** `count` steps at level 3 with a child now and then, and fixed buffers that come and go. */
export function randomScript(seed: number, count: number): string[] {
  const below = random(seed)
  const lines = ['obs 3', 'memfd m 0 16384 5', 'ring r 4 0']
  let child = false
  let buffers = false
  while (lines.length < count) {
    const dice = below(40)
    if (dice === 0) lines.push(child ? 'reap a' : 'fork a')
    else if (dice === 1) lines.push(buffers ? 'unreg r' : `bufs r @${below(24)} ${(1 + below(3)) * 4096}`)
    else lines.push(child && below(3) === 0 ? `child a ${step(below)}` : step(below))
    if (dice === 0) child = !child
    // Whether a registration succeeds is not known here: without a table `unreg` is an error like any other.
    if (dice === 1) buffers = !buffers
  }
  return lines
}
