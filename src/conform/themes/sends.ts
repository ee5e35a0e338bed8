import { access, small, space, tags } from './parts.ts'
import type { Theme } from './theme.ts'

/** Memory that is sent without being copied. */
export const sendThemes = {
  sends: {
    ...small,
    about:
      'sends that do not copy, from registered buffers and ordinary memory, to readers that take their time',
    weights: {
      ...space,
      ...access,
      // no closeRing: a ring goes at a time of its own once the last notification has come
      ring: 3,
      register: 6,
      registerEmpty: 1,
      update: 3,
      unregister: 2,
      ...tags,
      sockets: 4,
      send: 24,
      stall: 6,
      flow: 6,
      completions: 3,
      fork: 2,
      reap: 1,
    },
    maps: { private: 5, shared: 1, file: 2 },
  },
} as const satisfies Record<string, Theme>
