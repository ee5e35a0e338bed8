/** Pairs of ids that belong together, each id in one pair. 0 goes with 0. */
export class Pairs {
  // ids are small and lie close together; 0 stands for none
  #there = new Int32Array(256)
  #here = new Int32Array(256)

  /** @returns how many ids in a row from these two on belong together, at most `count` */
  match(there: number, here: number, count = 1): number {
    if (there === 0 || here === 0) return there === here ? count : 0
    this.#there = withRoom(this.#there, there + count)
    this.#here = withRoom(this.#here, here + count)
    for (let i = 0; i < count; i++) {
      const known = this.#there[there + i]!
      if (known === 0 && this.#here[here + i] === 0) {
        this.#there[there + i] = here + i
        this.#here[here + i] = there + i
      } else if (known !== here + i) return i
    }
    return count
  }
}

function withRoom(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  if (length <= array.length) return array
  const larger = new Int32Array(length * 2)
  larger.set(array)
  return larger
}
