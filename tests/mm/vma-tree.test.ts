import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { VmaTree } from '../../src/mm/vma-tree.ts'
import { VM_GROWSDOWN, VM_READ } from '../../src/mm/vm-flags.ts'
import { Vma } from '../../src/mm/vma.ts'

const P = 4096
const PAGES = 64
const GUARD = 4

type Step =
  | { do: 'insert'; page: number; pages: number; grows: boolean }
  | { do: 'remove'; page: number }
  | { do: 'resize'; page: number; low: number; high: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('insert' as const),
    page: fc.nat(PAGES - 1),
    pages: fc.integer({ min: 1, max: 6 }),
    grows: fc.boolean(),
  }),
  fc.record({ do: fc.constant('remove' as const), page: fc.nat(PAGES - 1) }),
  fc.record({
    do: fc.constant('resize' as const),
    page: fc.nat(PAGES - 1),
    low: fc.integer({ min: -3, max: 3 }),
    high: fc.integer({ min: -3, max: 3 }),
  }),
)

/** The same thing as a plain array, with the searches as one would write them first. */
class Model {
  vmas: Vma[] = []

  find(address: number): Vma | null {
    return this.vmas.find((vma) => vma.end > address) ?? null
  }

  /** free pages of the space that a search may use: [start, end) of every guarded hole */
  holes(limit: number): [number, number][] {
    const holes: [number, number][] = []
    let bottom = 0
    for (const vma of this.vmas) {
      const top = (vma.flags & VM_GROWSDOWN) === 0 ? vma.start : vma.start - GUARD * P
      if (top > bottom) holes.push([bottom, top])
      bottom = vma.end
    }
    if (limit > bottom) holes.push([bottom, limit])
    return holes
  }

  highest(len: number, low: number, high: number): number {
    for (const [start, end] of this.holes(high).reverse()) {
      const top = Math.min(end, high)
      if (top - Math.max(start, low) >= len) return top - len
    }
    return -1
  }

  lowest(len: number, low: number, high: number): number {
    for (const [start, end] of this.holes(high)) {
      const bottom = Math.max(start, low)
      if (Math.min(end, high) - bottom >= len) return bottom
    }
    return -1
  }
}

function apply(tree: VmaTree, model: Model, action: Step): void {
  const at = action.page * P
  if (action.do === 'insert') {
    const end = at + action.pages * P
    if (model.vmas.some((vma) => vma.start < end && vma.end > at)) return
    const vma = new Vma(at, end, action.grows ? VM_READ | VM_GROWSDOWN : VM_READ, 0)
    tree.insert(vma)
    model.vmas.push(vma)
    model.vmas.sort((a, b) => a.start - b.start)
    return
  }
  const vma = model.find(at)
  if (vma === null) return
  if (action.do === 'remove') {
    tree.remove(vma)
    model.vmas.splice(model.vmas.indexOf(vma), 1)
    return
  }
  const index = model.vmas.indexOf(vma)
  const start = Math.max(model.vmas[index - 1]?.end ?? 0, vma.start + action.low * P)
  const end = Math.min(model.vmas[index + 1]?.start ?? Infinity, vma.end + action.high * P)
  if (start < end) tree.resize(vma, start, end)
}

/** Height, balance, links and gap of every node, recomputed. */
function checkShape(tree: VmaTree, model: Model): void {
  expect(tree.size).toBe(model.vmas.length)
  expect(tree.first).toBe(model.vmas[0] ?? null)
  expect(tree.last).toBe(model.vmas.at(-1) ?? null)
  for (const [i, vma] of model.vmas.entries()) {
    expect(vma.previous).toBe(model.vmas[i - 1] ?? null)
    expect(vma.next).toBe(model.vmas[i + 1] ?? null)
  }
  let root = tree.first
  while (root !== null && root.parent !== null) root = root.parent
  const inOrder: Vma[] = []
  const visit = (node: Vma | null, parent: Vma | null): { height: number; gap: number } => {
    if (node === null) return { height: 0, gap: 0 }
    expect(node.parent).toBe(parent)
    const left = visit(node.left, node)
    inOrder.push(node)
    const right = visit(node.right, node)
    expect(Math.abs(left.height - right.height)).toBeLessThanOrEqual(1)
    const below = (node.flags & VM_GROWSDOWN) === 0 ? node.start : node.start - GUARD * P
    const own = Math.max(0, below - (node.previous?.end ?? 0))
    const height = Math.max(left.height, right.height) + 1
    const gap = Math.max(own, left.gap, right.gap)
    expect(node.height).toBe(height)
    expect(node.maxGap).toBe(gap)
    return { height, gap }
  }
  visit(root, null)
  expect(inOrder).toEqual(model.vmas)
}

describe('VmaTree', () => {
  it('R-AS-8 find is the first VMA that ends above the address, after any changes', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const tree = new VmaTree(GUARD * P)
        const model = new Model()
        for (const action of steps) {
          apply(tree, model, action)
          checkShape(tree, model)
        }
        for (let page = 0; page <= PAGES + 8; page++) {
          expect(tree.find(page * P)).toBe(model.find(page * P))
          expect(tree.find(page * P + P - 1)).toBe(model.find(page * P + P - 1))
        }
      }),
      { numRuns: 300 },
    )
  })

  it('R-AS-34 R-AS-33 highestGap and lowestGap agree with a walk over all guarded holes', () => {
    const limit = fc.nat(PAGES + 10)
    const search = fc.record({ len: fc.integer({ min: 1, max: 12 }), low: limit, high: limit })
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 40 }),
        fc.array(search, { maxLength: 30 }),
        (steps, searches) => {
          const tree = new VmaTree(GUARD * P)
          const model = new Model()
          for (const action of steps) apply(tree, model, action)
          for (const { len, low, high } of searches) {
            const args = [len * P, low * P, high * P] as const
            expect(tree.highestGap(...args), `highest ${len} in ${low}..${high}`).toBe(model.highest(...args))
            expect(tree.lowestGap(...args), `lowest ${len} in ${low}..${high}`).toBe(model.lowest(...args))
          }
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('R-AS-35 slack asks for a larger hole than the mapping', () => {
    const tree = new VmaTree(GUARD * P)
    tree.insert(new Vma(10 * P, 12 * P, VM_READ, 0))
    tree.insert(new Vma(16 * P, 20 * P, VM_READ, 0))
    expect(tree.highestGap(4 * P, 0, 20 * P)).toBe(12 * P)
    expect(tree.highestGap(4 * P, 0, 20 * P, P)).toBe(6 * P)
    expect(tree.lowestGap(4 * P, 11 * P, 40 * P, P)).toBe(20 * P)
  })

  it('R-AS-8 stays balanced with 65,530 VMAs', () => {
    const tree = new VmaTree()
    for (let i = 0; i < 65_530; i++) tree.insert(new Vma(2 * i * P, (2 * i + 1) * P, VM_READ, 0))
    let root = tree.first!
    while (root.parent !== null) root = root.parent
    expect(root.height).toBeLessThanOrEqual(23)
    expect(tree.find(131_057 * P)!.start).toBe(131_058 * P)
  })
})
