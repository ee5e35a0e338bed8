import { accessThemes } from './themes/access.ts'
import { admissionThemes } from './themes/admission.ts'
import { addressSpaceThemes } from './themes/address-space.ts'
import { borderThemes } from './themes/borders.ts'
import { hugeSegmentThemes } from './themes/huge-segments.ts'
import { hugeThemes } from './themes/huge.ts'
import { largeFolioThemes } from './themes/large-folios.ts'
import { memoryThemes } from './themes/memory.ts'
import { reclaimThemes } from './themes/reclaim.ts'
import { requestsThemes } from './themes/requests.ts'
import { secretThemes } from './themes/secret.ts'
import { sendThemes } from './themes/sends.ts'
import { uffdThemes } from './themes/uffd.ts'
import type { Theme } from './themes/theme.ts'

export type { Theme } from './themes/theme.ts'

/** All kinds of programs that both sides can run. Seeds count on their order: new ones come last. */
export const themes = {
  ...memoryThemes,
  ...accessThemes,
  ...addressSpaceThemes,
  ...reclaimThemes,
  ...requestsThemes,
  ...hugeThemes,
  ...uffdThemes,
  ...secretThemes,
  ...borderThemes,
  ...admissionThemes,
  ...sendThemes,
  ...hugeSegmentThemes,
  ...largeFolioThemes,
} as const satisfies Record<string, Theme>

export type ThemeName = keyof typeof themes

export function isThemeName(name: string): name is ThemeName {
  return Object.hasOwn(themes, name)
}

export function themeOf(name: ThemeName): Theme {
  return themes[name]
}
