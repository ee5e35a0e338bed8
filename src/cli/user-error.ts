/** Wrong usage or unreadable input: the message is one line that says what, where and what to do; exit 2. */
export class UserError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UserError'
  }
}
