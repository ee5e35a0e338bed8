/** What there is to know of stored snapshots without their schema, which is loaded for reading one only. */

/** The newest snapshot layout this program reads and the one it writes. */
export const SNAPSHOT_SCHEMA_VERSION = 1

/** How `Unseen.what` begins where the charge of a user is meant; it matters only where a limit applies. */
export const MEMLOCK_CHARGE = 'memory charged to RLIMIT_MEMLOCK'
