import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * Shell script with a process id and its start time: waits until that process has left by itself, and ends it when
 * it has not after three seconds because a step keeps it waiting in the kernel.
 */
export const END_AGENT = `
here() { read -r stat <"/proc/$1/stat" && case $stat in *') Z '*) false ;; esac && [ "$(echo "$stat" | cut -d ' ' -f 22)" = "$2" ]; }
n=0
while here "$1" "$2" && [ $n -lt 60 ]; do
  if [ $n -eq 30 ]; then
    segments=$(awk -v creator="$1" '$5 == creator { print $2 }' /proc/sysvipc/shm)
    kill -9 "$1"
    for each in $segments; do ipcrm -m "$each"; done
  fi
  sleep 0.1
  n=$((n + 1))
done`

/** When a process was started, in clock ticks since boot, as text; null: it is gone. */
export function startTime(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1').split(' ')[21] ?? null
  } catch {
    return null
  }
}

/** Removes the System V segments that a process has made and that has just been killed: nobody else will. */
export function removeSegments(pid: number): void {
  let segments: string
  try {
    segments = readFileSync('/proc/sysvipc/shm', 'latin1')
  } catch {
    return
  }
  for (const line of segments.split('\n')) {
    const [, id, , , creator] = line.trim().split(/\s+/)
    if (id !== undefined && creator === String(pid)) spawnSync('ipcrm', ['-m', id])
  }
}
