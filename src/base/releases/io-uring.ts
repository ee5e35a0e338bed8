import type { ReleaseName } from '../release.ts'

/** What differs in io_uring/rsrc.c between releases (io-uring.md). */
export interface IoUringSwitches {
  /** how io_pin_pages looks at the mapping: vmas array, FOLL_SAME_FILE and one lookup, or not at all (R-URING-25..31) */
  readonly pinCheck: 'vmas' | 'same-file' | 'none'
  /** which GUP entry pins: under mmap_lock, or the fast one: 6.12 on (R-URING-31) */
  readonly pinsFast: boolean
  /** an iovec length with the top bit set is EINVAL, not EFAULT: 6.12 on (R-URING-12) */
  readonly rejectsHugeLength: boolean
  /** base + length overflow adds the page-aligned length (6.18) instead of length + 4095 (R-URING-12) */
  readonly overflowUsesAlignedLength: boolean
  /** several pages of large folios become one: never, whole-buffer-in-one-folio, or per folio (R-URING-37..39) */
  readonly coalesces: 'never' | 'one-folio' | 'folios'
  /** one-folio coalescing demands consecutive pages: missing in v3's base, CVE-2023-2598 (R-URING-38) */
  readonly coalesceChecksOrder: boolean
  /** ring memory is charged to the user: 6.18; 6.12 not (R-URING-8) */
  readonly chargesRingMemory: boolean
  /** UNREGISTER_BUFFERS waits for requests in flight: until 6.12 (R-URING-21) */
  readonly unregisterQuiesces: boolean
  /** tag CQEs on unregister, highest index first: 6.18 (R-URING-53) */
  readonly unregisterPostsTags: boolean
  /** tags are copied entry by entry instead of all at once: 6.18 (R-URING-11) */
  readonly copiesTagsPerEntry: boolean
  /** buffers that the same REGISTER call made before count as registered when folios are charged: not in 6.18 (R-URING-44) */
  readonly chargesSeeSameCall: boolean
  /**
   * what a request keeps from being released: the slot it uses, or everything that is replaced from then on,
   * in the order of replacement: until 6.12 (R-URING-20)
   */
  readonly nodes: 'per-slot' | 'per-ring'
  /** a replaced buffer is released by a delayed work item, up to a second later: until 6.5 (R-URING-20) */
  readonly releasesReplacedLate: boolean
  /** READ_FIXED and WRITE_FIXED look at slot and range before the descriptor, at the slot only, or at neither (R-URING-57) */
  readonly fixedImport: 'range-first' | 'slot-first' | 'issue'
  /** READ and WRITE look at the address before the descriptor: 6.12 on (R-URING-93) */
  readonly plainImportFirst: boolean
  /** of requests that wait for the same pipe the newest goes on first: 6.12 on (R-URING-96) */
  readonly pollWakesNewestFirst: boolean
  /** requests of a batch that succeed complete at its end, after those that failed: seen on 6.1 (R-URING-92) */
  readonly failedCompletesFirst: boolean
  /** SENDMSG_ZC can send from a registered buffer: 6.15 on (R-URING-59) */
  readonly fixedMessages: boolean
  /** SENDMSG_ZC charges ordinary memory to the user: 6.18; 6.12 not (R-URING-50) */
  readonly chargesMessages: boolean
  /** SEND_ZC takes the slot of its buffer when it is prepared, unless that is empty: until 6.12 (R-URING-99) */
  readonly sendsTakeSlotFirst: boolean
  /**
   * the notification of a send is made first of all and reports from then on, or when the flags have been found to
   * exist, and reports only when the slot is there: 6.1 (R-URING-99)
   */
  readonly sendNotification: 'first' | 'late'
  /** sends and receives look at their memory, or a message's header, before the descriptor: 6.12 on (R-URING-99) */
  readonly messagesImportFirst: boolean
  /** sends are charged when they are prepared, not when the socket is known: 6.18 (R-URING-50) */
  readonly chargesSendsFirst: boolean
  /** a message of more than 1024 entries is EMSGSIZE, not EINVAL: 6.18 (R-URING-99) */
  readonly longMessageEmsgsize: boolean
  /** SEND and RECV of 2^31 bytes and more are EINVAL: 6.12 on (R-URING-104) */
  readonly rejectsLongMessages: boolean
  /** a send to a stream that fails has taken its memory nevertheless: 6.12 on (R-URING-101) */
  readonly failedSendTaken: boolean
  /** a pending notification of ordinary memory keeps replaced buffers as one of a registered buffer does: 6.1 (R-URING-102) */
  readonly plainSendsHoldBuffers: boolean
  /** of notifications that are posted together the newest comes first: 6.1 (R-URING-100) */
  readonly notifiesNewestFirst: boolean
  /** a stream of AF_UNIX tells that it has more: 6.18 (R-URING-104) */
  readonly unixTellsMore: boolean
  /** IORING_RECVSEND_BUNDLE exists: 6.10 on (manual page) (R-URING-104) */
  readonly bundles: boolean
  /** SEND takes BUNDLE only where it selects a buffer: 6.12 (R-URING-104) */
  readonly bundlesNeedSelection: boolean
  /** IORING_SEND_VECTORIZED exists: seen on 6.18 (R-URING-104) */
  readonly vectorizedSends: boolean
  /** IORING_OP_LAST */
  readonly lastOperation: number
  /** IORING_NOP_* bits that exist (R-URING-95) */
  readonly nopFlags: number
  /** whose pages a mapping of a ring shows is known (R-URING-36) */
  readonly ringMappings: 'pages' | 'unknown'
  /** the part of a ring to be mapped is named by the upper bits of the offset alone: 6.12 on (R-URING-98) */
  readonly mapsPartsByMask: boolean
  /** a ring cannot be mapped executable: 6.18 (R-URING-98) */
  readonly ringFileNoexec: boolean
  /** memory of the program for queues must be physically contiguous: 6.6 (R-URING-79) */
  readonly regionsContiguous: boolean
  /** IOU_PBUF_RING_* bits that exist (R-URING-77) */
  readonly pbufFlags: number
  /** the number of entries of a ring of buffers is looked at before its address: 6.18 (R-URING-77) */
  readonly pbufEntriesFirst: boolean
  /** the first ring of buffers of a number below this makes all groups below it, without rings; 0: 6.12 on (R-URING-78) */
  readonly groupsMadeAtOnce: number
  /** CLONE_BUFFERS takes ranges and can replace: 6.18 (R-URING-73) */
  readonly cloneRanges: boolean
  /** IORING_SETUP_* bits that exist (R-URING-6) */
  readonly setupFlags: number
  /** IORING_REGISTER_LAST */
  readonly lastOpcode: number
  /** fd −1 is a "blind" registration, EINVAL for buffers: 6.13 on (R-URING-1.3) */
  readonly blindRegistration: boolean
  /** IORING_REGISTER_USE_REGISTERED_RING is understood: 6.3 on (R-URING-1.1) */
  readonly registeredRingOpcode: boolean
}

const r61: IoUringSwitches = {
  pinCheck: 'vmas',
  pinsFast: false,
  rejectsHugeLength: false,
  overflowUsesAlignedLength: false,
  coalesces: 'never',
  coalesceChecksOrder: true,
  chargesRingMemory: false,
  unregisterQuiesces: true,
  unregisterPostsTags: false,
  copiesTagsPerEntry: false,
  chargesSeeSameCall: true,
  nodes: 'per-ring',
  releasesReplacedLate: true,
  fixedImport: 'slot-first',
  plainImportFirst: false,
  pollWakesNewestFirst: false,
  failedCompletesFirst: true,
  fixedMessages: false,
  chargesMessages: false,
  sendsTakeSlotFirst: true,
  sendNotification: 'late',
  messagesImportFirst: false,
  chargesSendsFirst: false,
  longMessageEmsgsize: false,
  rejectsLongMessages: false,
  failedSendTaken: false,
  plainSendsHoldBuffers: true,
  notifiesNewestFirst: true,
  unixTellsMore: false,
  bundles: false,
  bundlesNeedSelection: false,
  vectorizedSends: false,
  lastOperation: 49,
  nopFlags: 0,
  ringMappings: 'pages',
  mapsPartsByMask: false,
  ringFileNoexec: false,
  regionsContiguous: false,
  pbufFlags: 0,
  pbufEntriesFirst: false,
  groupsMadeAtOnce: 64,
  cloneRanges: false,
  setupFlags: 0x3fff,
  lastOpcode: 26,
  blindRegistration: false,
  registeredRingOpcode: false,
}
const v3: IoUringSwitches = {
  ...r61,
  pinCheck: 'same-file',
  ringMappings: 'unknown',
  coalesces: 'one-folio',
  coalesceChecksOrder: false,
  registeredRingOpcode: true,
}
const r66: IoUringSwitches = {
  ...v3,
  pinCheck: 'none',
  regionsContiguous: true,
  pbufFlags: 1,
  coalesceChecksOrder: true,
  releasesReplacedLate: false,
  setupFlags: 0x1ffff,
}
const r612: IoUringSwitches = {
  ...r66,
  pinsFast: true,
  ringMappings: 'pages',
  mapsPartsByMask: true,
  regionsContiguous: false,
  pbufFlags: 3,
  groupsMadeAtOnce: 0,
  rejectsHugeLength: true,
  coalesces: 'folios',
  fixedImport: 'range-first',
  plainImportFirst: true,
  pollWakesNewestFirst: true,
  failedCompletesFirst: false,
  sendNotification: 'first',
  messagesImportFirst: true,
  rejectsLongMessages: true,
  failedSendTaken: true,
  plainSendsHoldBuffers: false,
  notifiesNewestFirst: false,
  bundles: true,
  bundlesNeedSelection: true,
  lastOperation: 58,
  nopFlags: 1,
  lastOpcode: 31,
}

export const ioUringSwitches: Readonly<Record<ReleaseName, IoUringSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  '6.6': r66,
  '6.12': r612,
  '6.18': {
    ...r612,
    overflowUsesAlignedLength: true,
    chargesRingMemory: true,
    unregisterQuiesces: false,
    nodes: 'per-slot',
    unregisterPostsTags: true,
    copiesTagsPerEntry: true,
    chargesSeeSameCall: false,
    ringFileNoexec: true,
    pbufEntriesFirst: true,
    cloneRanges: true,
    fixedImport: 'issue',
    fixedMessages: true,
    chargesMessages: true,
    sendsTakeSlotFirst: false,
    chargesSendsFirst: true,
    longMessageEmsgsize: true,
    unixTellsMore: true,
    bundlesNeedSelection: false,
    vectorizedSends: true,
    lastOperation: 63,
    nopFlags: 0x1f,
    setupFlags: 0x7ffff,
    lastOpcode: 36,
    blindRegistration: true,
  },
}
