import { EBADF, EMFILE } from '../base/errno.ts'
import { OpenFile } from '../mm/file.ts'

/** What a descriptor refers to: an open file description that counts its references. */
export interface FileDescription {
  get(): this
  put(): void
}

/** `struct files_struct`: descriptor number → open file description. */
export class FdTable {
  readonly #slots: (FileDescription | null)[] = []
  /** descriptors with FD_CLOEXEC */
  readonly #closeOnExec = new Set<number>()

  /**
   * Takes over one reference; lowest free number.
   * @param closeOnExec O_CLOEXEC
   * @returns the descriptor, or -EMFILE
   */
  install(file: FileDescription, limit: number, closeOnExec = false): number {
    let fd = this.#slots.indexOf(null)
    if (fd < 0) fd = this.#slots.length
    if (fd >= limit) return -EMFILE
    this.#slots[fd] = file
    if (closeOnExec) this.#closeOnExec.add(fd)
    return fd
  }

  /** fcntl(F_SETFD). @returns 0 or -EBADF */
  setCloseOnExec(fd: number, on: boolean): number {
    if (this.get(fd) === null) return -EBADF
    if (on) this.#closeOnExec.add(fd)
    else this.#closeOnExec.delete(fd)
    return 0
  }

  get(fd: number): FileDescription | null {
    return this.#slots[fd] ?? null
  }

  /** The first open file of a path, null: there is none. */
  opened(path: string): OpenFile | null {
    const isOpen = (file: FileDescription | null): file is OpenFile =>
      file instanceof OpenFile && file.path === path
    return this.#slots.find(isOpen) ?? null
  }

  close(fd: number): number {
    const file = this.get(fd)
    if (file === null) return -EBADF
    this.#slots[fd] = null
    this.#closeOnExec.delete(fd)
    file.put()
    return 0
  }

  closeAll(): void {
    for (let fd = 0; fd < this.#slots.length; fd++) this.close(fd)
  }

  /** exec: what is marked so goes. */
  closeMarked(): void {
    for (const fd of [...this.#closeOnExec].sort((a, b) => a - b)) this.close(fd)
  }

  /** fork: the child shares every open file description. */
  clone(): FdTable {
    const copy = new FdTable()
    for (const file of this.#slots) copy.#slots.push(file === null ? null : file.get())
    for (const fd of this.#closeOnExec) copy.#closeOnExec.add(fd)
    return copy
  }
}
