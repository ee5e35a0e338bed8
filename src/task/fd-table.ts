import { EBADF, EMFILE } from '../base/errno.ts'

/** What a descriptor refers to: an open file description that counts its references. */
export interface FileDescription {
  get(): this
  put(): void
}

/** `struct files_struct`: descriptor number → open file description. */
export class FdTable {
  readonly #slots: (FileDescription | null)[] = []

  /** Takes over one reference; lowest free number. @returns the descriptor, or -EMFILE */
  install(file: FileDescription, limit: number): number {
    let fd = this.#slots.indexOf(null)
    if (fd < 0) fd = this.#slots.length
    if (fd >= limit) return -EMFILE
    this.#slots[fd] = file
    return fd
  }

  get(fd: number): FileDescription | null {
    return this.#slots[fd] ?? null
  }

  close(fd: number): number {
    const file = this.get(fd)
    if (file === null) return -EBADF
    this.#slots[fd] = null
    file.put()
    return 0
  }

  closeAll(): void {
    for (let fd = 0; fd < this.#slots.length; fd++) this.close(fd)
  }

  /** fork: the child shares every open file description. */
  clone(): FdTable {
    const copy = new FdTable()
    for (const file of this.#slots) copy.#slots.push(file === null ? null : file.get())
    return copy
  }
}
