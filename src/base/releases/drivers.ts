import type { ReleaseName } from '../release.ts'

/** What differs in the device callers of GUP between releases (drivers.md). */
export interface DriverSwitches {
  /**
   * umem, siw, usnic, qib and videobuf pin with FOLL_FORCE, and umem and siw with FOLL_WRITE always: 6.1; both went
   * in 6.2, when read-only long-term pins of COW memory became reliable
   * @rule R-DRV-16
   */
  readonly forcesPins: boolean
  /** AF_XDP knows TX_SW_CSUM and TX_METADATA_LEN: seen in 6.12 and 6.18 (R-XDP-4) */
  readonly xdpTxMetadata: boolean
  /** shortest TX metadata but 0: 16 in 6.12, none in 6.18 (R-XDP-6) */
  readonly xdpLeastMetadata: number
  /** bytes of a chunk that are no headroom: 257 on the series' base, 704 tightened; of 6.6 not known (R-XDP-5) */
  readonly xdpSpareChunk: 257 | 704 | 'unknown'
  /** AF_XDP knows XDP_MAX_TX_SKB_BUDGET: 6.18; 6.1 and 6.12 do not, so none between them (R-XDP-16) */
  readonly xdpTxBudget: boolean
  /** a group that is attached waits for dmas whose address is being updated: 6.1 (R-VFIO-10) */
  readonly vfioReplayWaits: boolean
  /** /dev/iommu exists: 6.2 on (drivers.md §2) */
  readonly iommufd: boolean
  /** IOMMU_IOAS_MAP and COPY without any permission are refused: 6.12 on; earlier not known (R-IOMMUFD-2) */
  readonly iommufdNeedsAccess: boolean | 'unknown'
  /** IOMMU_IOAS_MAP_FILE and CHANGE_PROCESS exist: 6.18 (R-IOMMUFD-15) */
  readonly iommufdMapsFiles: boolean
  /** VDUSE: bounce buffers have a size of their own and belong to a domain made later: 6.12 on; of 6.6 taken from 6.1 (R-VDUSE-1) */
  readonly vduseSizedBounce: boolean
  /** siw registers memory through ib_umem_get: 6.8 on (R-SIW-4) */
  readonly siwUsesUmem: boolean
  /** REREG_MR may not make a read-only umem writable: 6.12 on (R-UMEM-9) */
  readonly umemReregChecksAccess: boolean
  /** videobuf (version 1) exists: gone in 6.12, of 6.6 not known (drivers.md §10) */
  readonly videobuf: boolean | 'unknown'
}

const v3: DriverSwitches = {
  forcesPins: false,
  xdpTxMetadata: false,
  xdpLeastMetadata: 0,
  xdpSpareChunk: 257,
  xdpTxBudget: false,
  vfioReplayWaits: false,
  iommufd: true,
  iommufdNeedsAccess: 'unknown',
  iommufdMapsFiles: false,
  vduseSizedBounce: false,
  siwUsesUmem: false,
  umemReregChecksAccess: false,
  videobuf: true,
}
const r61: DriverSwitches = {
  ...v3,
  forcesPins: true,
  xdpSpareChunk: 704,
  vfioReplayWaits: true,
  iommufd: false,
}
const r612: DriverSwitches = {
  ...v3,
  xdpTxMetadata: true,
  xdpLeastMetadata: 16,
  xdpSpareChunk: 704,
  iommufdNeedsAccess: true,
  vduseSizedBounce: true,
  siwUsesUmem: true,
  umemReregChecksAccess: true,
  videobuf: false,
}

export const driverSwitches: Readonly<Record<ReleaseName, DriverSwitches>> = {
  'gup-v3': v3,
  '6.1': r61,
  '6.6': { ...v3, xdpSpareChunk: 'unknown', videobuf: 'unknown' },
  '6.12': r612,
  // AF_XDP seen; of the others what 6.12 does, which nobody has seen on 6.18
  '6.18': { ...r612, xdpLeastMetadata: 0, xdpTxBudget: true, iommufdMapsFiles: true },
}
