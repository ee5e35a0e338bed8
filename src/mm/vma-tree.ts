import { VM_GROWSDOWN } from './vm-flags.ts'
import type { Vma } from './vma.ts'

/**
 * Ordered, non-overlapping VMAs of one mm: an AVL tree threaded by `previous`/`next`, each node
 * knowing the largest hole below any VMA of its subtree. find, insert, remove, resize and the gap
 * searches are O(log n).
 *
 * A "hole" here is what an mmap without MAP_FIXED may use: it ends at the guarded start of the VMA
 * above, which for a growable one lies `guardGap` below its start.
 * @rule R-AS-33
 */
export class VmaTree {
  /** VMAs in the tree */
  size = 0
  first: Vma | null = null
  last: Vma | null = null
  #root: Vma | null = null
  readonly #guardGap: number

  /** @param guardGap bytes kept free below a VM_GROWSDOWN VMA (`stack_guard_gap`) */
  constructor(guardGap = 256 * 4096) {
    this.#guardGap = guardGap
  }

  /**
   * `find_vma`: first VMA with end > address, or null.
   * @rule R-AS-8
   */
  find(address: number): Vma | null {
    let node = this.#root
    let found: Vma | null = null
    while (node !== null) {
      if (node.end > address) {
        found = node
        if (node.start <= address) return node
        node = node.left
      } else node = node.right
    }
    return found
  }

  /** `vm_start_gap`: how far down a hole below this VMA may be used. */
  guardedStart(vma: Vma): number {
    return (vma.flags & VM_GROWSDOWN) === 0 ? vma.start : Math.max(0, vma.start - this.#guardGap)
  }

  /** Adds a VMA. The caller has made sure that its range is free. */
  insert(vma: Vma): void {
    const next = this.find(vma.start)
    this.insertBetween(vma, next === null ? this.last : next.previous, next)
  }

  /** Adds a VMA whose neighbours the caller knows: no search. */
  insertBetween(vma: Vma, previous: Vma | null, next: Vma | null): void {
    vma.left = null
    vma.right = null
    vma.height = 1
    vma.previous = previous
    vma.next = next
    if (previous === null) this.first = vma
    else previous.next = vma
    if (next === null) this.last = vma
    else next.previous = vma
    this.size++
    vma.maxGap = this.#gapBelow(vma)
    if (next !== null && next.left === null) {
      vma.parent = next
      next.left = vma
      this.#update(next, null)
    } else if (previous !== null) {
      vma.parent = previous
      previous.right = vma
      this.#update(previous, next)
    } else {
      vma.parent = null
      this.#root = vma
    }
  }

  /** Takes a VMA out; it keeps its range but no link. */
  remove(vma: Vma): void {
    const { previous, next } = vma
    if (previous === null) this.first = next
    else previous.next = next
    if (next === null) this.last = previous
    else next.previous = previous
    this.size--
    // the lowest node whose subtree shrank
    let from: Vma | null
    if (vma.left === null || vma.right === null) {
      from = vma.parent
      this.#replaceChild(vma, vma.left ?? vma.right)
    } else {
      // two children: the successor is the leftmost node of the right subtree and takes this place
      const heir = next!
      from = heir.parent === vma ? heir : heir.parent
      this.#replaceChild(heir, heir.right)
      this.#replaceChild(vma, heir)
      heir.left = vma.left
      if (heir.left !== null) heir.left.parent = heir
      heir.right = vma.right
      if (heir.right !== null) heir.right.parent = heir
      heir.height = vma.height
      heir.maxGap = vma.maxGap
    }
    vma.left = null
    vma.right = null
    vma.parent = null
    vma.previous = null
    vma.next = null
    if (from !== null) this.#update(from, null)
    if (next !== null) this.#update(next, null)
  }

  /** Moves the edges of a VMA without passing a neighbour. */
  resize(vma: Vma, start: number, end: number): void {
    const endMoved = vma.end !== end
    const startMoved = vma.start !== start
    vma.start = start
    vma.end = end
    if (startMoved) this.#update(vma, null)
    if (endMoved && vma.next !== null) this.#update(vma.next, null)
  }

  /**
   * Highest address where `len` bytes fit into [low, high). A hole counts only when it holds
   * `len + slack` bytes, so that a caller who aligns the result down by at most `slack` stays inside.
   * @param len bytes
   * @param slack bytes the alignment may cost
   * @returns the address, or -1
   * @rule R-AS-34
   */
  highestGap(len: number, low: number, high: number, slack = 0): number {
    const need = len + slack
    if (need > high - low) return -1
    let vma: Vma | null
    let top = high
    const last = this.last
    if (last === null || last.end < high) {
      if (last === null) return high - len
      // the hole above everything
      if (high - Math.max(last.end, low) >= need) return high - len
      vma = last
    } else {
      // the first VMA that ends at or above `high`
      vma = this.find(high - 1)!
      const bottom = Math.max(vma.previous === null ? 0 : vma.previous.end, low)
      top = Math.min(this.guardedStart(vma), high)
      if (top - bottom >= need) return top - len
      vma = vma.previous
    }
    if (vma === null) return -1
    const found = this.#lastWithGap(vma, need)
    if (found === null) return -1
    top = this.guardedStart(found)
    const bottom = Math.max(found.previous === null ? 0 : found.previous.end, low)
    // holes further down lie below `low` altogether when this one is cut by it
    return top - bottom >= need ? top - len : -1
  }

  /**
   * Lowest address where `len + slack` bytes fit into [low, high).
   * @returns the start of the hole (clipped to `low`), or -1
   */
  lowestGap(len: number, low: number, high: number, slack = 0): number {
    const need = len + slack
    if (need > high - low) return -1
    let vma = this.find(low)
    if (vma !== null && vma.start <= low) vma = vma.next
    if (vma !== null) {
      const bottom = Math.max(vma.previous === null ? 0 : vma.previous.end, low)
      if (Math.min(this.guardedStart(vma), high) - bottom >= need) return bottom
      if (bottom >= high) return -1
      const found = vma.next === null ? null : this.#firstWithGap(vma.next, need)
      if (found !== null) {
        const start = found.previous!.end
        return Math.min(this.guardedStart(found), high) - start >= need ? start : -1
      }
    }
    const bottom = Math.max(this.last === null ? 0 : this.last.end, low)
    return high - bottom >= need ? bottom : -1
  }

  /** The highest VMA at or below `vma` in order with a hole of `need` bytes below it. */
  #lastWithGap(vma: Vma, need: number): Vma | null {
    let node: Vma = vma
    for (;;) {
      if (this.#gapBelow(node) >= need) return node
      if (node.left !== null && node.left.maxGap >= need) return this.#rightmostWithGap(node.left, need)
      // up to the first ancestor that lies below: the one we are right of
      let parent = node.parent
      while (parent !== null && parent.left === node) {
        node = parent
        parent = node.parent
      }
      if (parent === null) return null
      node = parent
    }
  }

  /** The lowest VMA at or above `vma` in order with a hole of `need` bytes below it. */
  #firstWithGap(vma: Vma, need: number): Vma | null {
    let node: Vma = vma
    for (;;) {
      if (this.#gapBelow(node) >= need) return node
      if (node.right !== null && node.right.maxGap >= need) return this.#leftmostWithGap(node.right, need)
      let parent = node.parent
      while (parent !== null && parent.right === node) {
        node = parent
        parent = node.parent
      }
      if (parent === null) return null
      node = parent
    }
  }

  #rightmostWithGap(root: Vma, need: number): Vma {
    let node = root
    for (;;) {
      if (node.right !== null && node.right.maxGap >= need) node = node.right
      else if (this.#gapBelow(node) >= need) return node
      else node = node.left!
    }
  }

  #leftmostWithGap(root: Vma, need: number): Vma {
    let node = root
    for (;;) {
      if (node.left !== null && node.left.maxGap >= need) node = node.left
      else if (this.#gapBelow(node) >= need) return node
      else node = node.right!
    }
  }

  #gapBelow(vma: Vma): number {
    const bottom = vma.previous === null ? 0 : vma.previous.end
    if ((vma.flags & VM_GROWSDOWN) === 0) return vma.start - bottom
    return Math.max(0, vma.start - this.#guardGap - bottom)
  }

  #replaceChild(node: Vma, child: Vma | null): void {
    const { parent } = node
    if (child !== null) child.parent = parent
    if (parent === null) this.#root = child
    else if (parent.left === node) parent.left = child
    else parent.right = child
  }

  /**
   * Restores heights, balance and gaps from a node up to the root; stops early where nothing changed,
   * but not before `through` was passed.
   */
  #update(from: Vma, through: Vma | null): void {
    let node: Vma | null = from
    let pending = through
    while (node !== null) {
      const { left, right } = node
      const leftHeight = left === null ? 0 : left.height
      const rightHeight = right === null ? 0 : right.height
      if (node === pending) pending = null
      if (leftHeight > rightHeight + 1) {
        if (heightOf(left!.left) < heightOf(left!.right)) this.#rotateLeft(left!)
        node = this.#rotateRight(node).parent
        continue
      }
      if (rightHeight > leftHeight + 1) {
        if (heightOf(right!.right) < heightOf(right!.left)) this.#rotateRight(right!)
        node = this.#rotateLeft(node).parent
        continue
      }
      const height = (leftHeight > rightHeight ? leftHeight : rightHeight) + 1
      let gap = this.#gapBelow(node)
      if (left !== null && left.maxGap > gap) gap = left.maxGap
      if (right !== null && right.maxGap > gap) gap = right.maxGap
      if (node.height === height && node.maxGap === gap && pending === null) return
      node.height = height
      node.maxGap = gap
      node = node.parent
    }
  }

  #rotateLeft(node: Vma): Vma {
    const top = node.right!
    this.#replaceChild(node, top)
    node.right = top.left
    if (node.right !== null) node.right.parent = node
    top.left = node
    node.parent = top
    this.#pull(node)
    this.#pull(top)
    return top
  }

  #rotateRight(node: Vma): Vma {
    const top = node.left!
    this.#replaceChild(node, top)
    node.left = top.right
    if (node.left !== null) node.left.parent = node
    top.right = node
    node.parent = top
    this.#pull(node)
    this.#pull(top)
    return top
  }

  #pull(node: Vma): void {
    const { left, right } = node
    let height = 0
    let gap = this.#gapBelow(node)
    if (left !== null) {
      height = left.height
      if (left.maxGap > gap) gap = left.maxGap
    }
    if (right !== null) {
      if (right.height > height) height = right.height
      if (right.maxGap > gap) gap = right.maxGap
    }
    node.height = height + 1
    node.maxGap = gap
  }
}

function heightOf(node: Vma | null): number {
  return node === null ? 0 : node.height
}
