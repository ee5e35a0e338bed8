/**
 * What tools may watch. Events are small plain objects, made only when somebody observes.
 */
export type MmEvent =
  | { readonly type: 'map' | 'unmap'; readonly mm: number; readonly start: number; readonly end: number }
  | { readonly type: 'pin' | 'unpin'; readonly pfn: number; readonly pages: number }
  | {
      readonly type: 'cow' | 'fork-copy'
      readonly mm: number
      readonly address: number
      readonly from: number
      readonly to: number
    }
  | { readonly type: 'migrate'; readonly from: number; readonly to: number }
  /** the 2 MiB at an address became one huge page */
  | { readonly type: 'collapse'; readonly mm: number; readonly address: number; readonly to: number }
  | { readonly type: 'zap'; readonly mm: number; readonly start: number; readonly end: number }
  | { readonly type: 'warn'; readonly id: string; readonly message: string }

export type MmObserver = (event: MmEvent) => void
