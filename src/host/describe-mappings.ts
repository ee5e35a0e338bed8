/** Puts together what maps, smaps, stat and the mount table say about each mapping. */
import { PAGE_SIZE } from '../base/units.ts'
import { classifyMapping, deriveFlags, learnInternalDevices } from './file-class.ts'
import type { ClassContext } from './file-class.ts'
import { MappedFiles } from './mapped-files.ts'
import { decodeMapsName } from './maps.ts'
import type { MapsRecord } from './maps.ts'
import { decimalDevice } from './mountinfo.ts'
import type { Mount } from './mountinfo.ts'
import type { SmapsRecord } from './smaps.ts'
import type { Mapping } from './snapshot.ts'

/**
 * Describes mappings in full.
 * @param directory `/proc/PID` or `/proc/PID/task/TID`
 * @param detailed the records to describe
 * @param smaps what smaps said, by start address; records missing here get derived flags
 * @param all every record of the process: internal devices are learnt from them
 */
export function describeMappings(
  directory: string,
  detailed: readonly MapsRecord[],
  smaps: ReadonlyMap<number, SmapsRecord>,
  all: readonly MapsRecord[],
  mounts: readonly Mount[],
): Mapping[] {
  const files = new MappedFiles(directory, mounts)
  const context: ClassContext = {
    mounts,
    internal: learnInternalDevices(all, mounts),
    pathType: (record) => files.pathType(record),
    blockDeviceDax: (device) => files.blockDeviceDax(device),
  }
  return detailed.map((record) => describeMapping(record, smaps.get(record.start) ?? null, files, context))
}

function describeMapping(
  record: MapsRecord,
  smaps: SmapsRecord | null,
  files: MappedFiles,
  context: ClassContext,
): Mapping {
  const decoded = decodeMapsName(record.rawName)
  const living = decoded.ambiguous && decoded.deleted && files.reallyNamed(record)
  const backing = classifyMapping(record, smaps, context)
  return {
    start: record.start,
    end: record.end,
    perms: record.perms,
    offset: record.offset,
    device: record.device,
    inode: record.inode,
    name: living ? `${decoded.name} (deleted)` : decoded.name,
    deleted: decoded.deleted && !living,
    nameAmbiguous: decoded.ambiguous && !living,
    flags: smaps?.flags ?? deriveFlags(record.perms, backing),
    flagsFrom: smaps === null ? 'derived' : 'smaps',
    pageSize:
      smaps?.kernelPageSize ?? (backing.kind === 'hugetlb' ? (backing.pageSize ?? PAGE_SIZE) : PAGE_SIZE),
    usage:
      smaps === null
        ? null
        : {
            rss: smaps.rss,
            swap: smaps.swap,
            anonymous: smaps.anonymous,
            anonHugePages: smaps.anonHugePages,
            shmemPmdMapped: smaps.shmemPmdMapped,
            filePmdMapped: smaps.filePmdMapped,
            hugetlb: smaps.hugetlb,
            locked: smaps.locked,
          },
    thpEligible: smaps?.thpEligible ?? null,
    backing,
    ...files.sizeOf(record, backing),
  }
}

/** The mounts that described mappings lie on. */
export function mountsOf(mappings: readonly Mapping[], mounts: readonly Mount[]): Mount[] {
  const devices = new Set(
    mappings.filter((mapping) => mapping.inode !== 0).map((mapping) => decimalDevice(mapping.device)),
  )
  return mounts.filter((mount) => devices.has(mount.device))
}
