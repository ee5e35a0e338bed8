// The same promises on kernels as users have them, where runs of plain pages go through the tight loops.
import './gup-unchecked-mode.ts'
import './gup.test.ts'
import './gup-fast.test.ts'
import './gup-follow.test.ts'
import './gup-longterm.test.ts'
import './populate.test.ts'
