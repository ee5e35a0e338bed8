import {
  IB_ACCESS_LOCAL_WRITE,
  IB_ACCESS_REMOTE_READ,
  IB_ACCESS_REMOTE_WRITE,
} from '../../../src/drivers/infiniband/access.ts'
import { UverbsDevice, type RdmaProvider, type RegMr } from '../../../src/drivers/infiniband/uverbs.ts'
import { openDevice, type DeviceHandle } from '../../../src/task/device/handle.ts'
import type { Process } from '../../../src/task/process.ts'

export const LW = IB_ACCESS_LOCAL_WRITE
export const RR = IB_ACCESS_REMOTE_READ
export const RWRITE = IB_ACCESS_REMOTE_WRITE

export type Verbs = DeviceHandle<UverbsDevice>

export function openVerbs(app: Process, provider?: RdmaProvider): Verbs {
  return openDevice(app, (k) => new UverbsDevice(k, provider))
}

export function regMr(
  verbs: Verbs,
  start: number,
  length: number,
  access = LW,
  more: Partial<RegMr> = {},
): number {
  return verbs.call('ibv_reg_mr', (device) => device.regMr({ start, length, access, ...more }))
}

export function deregMr(verbs: Verbs, handle: number): number {
  return verbs.call('ibv_dereg_mr', (device) => device.deregMr(handle))
}
