/** A pointer of the caller's that cannot be read: copying from it gives -EFAULT. */
export interface UnreadablePointer {
  readonly unreadable: true
}

/** A string in the caller's memory. */
export type UserString = string | UnreadablePointer

/** Whether a string, or an array of them, can be read. */
export function isReadable<T extends readonly UserString[] | string>(
  value: T | UnreadablePointer,
): value is T {
  return typeof value === 'string' || Array.isArray(value)
}
