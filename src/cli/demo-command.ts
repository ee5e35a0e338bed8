import { runInBackground } from './background.ts'
import { startDemoProcess } from './demo-process.ts'
import { reportExplain } from './report-explain.ts'
import { outputTerminal } from './terminal.ts'
import { wrap } from './text-layout.ts'

/** What was asked of the demo's process, and how it should come out. */
interface Scene {
  readonly title: string
  readonly ok: boolean
}

export async function runDemo(): Promise<void> {
  const terminal = outputTerminal()
  const child = await startDemoProcess()
  try {
    const { pid } = child
    const { writable, readOnly } = await runInBackground(
      { kind: 'demo-ranges', pid },
      `looking for memory of process ${pid}`,
    )
    const scenes = [
      {
        ok: true,
        range: writable.range,
        title: `1. A program hands 64 KiB of its own memory to io_uring as an I/O buffer, so that the kernel may write into it at any time: ${writable.what} of process ${pid}, started for this.`,
      },
      {
        ok: false,
        range: readOnly.range,
        title: `2. The same with memory it may only read, as happens when a buffer points into a mapped file: ${readOnly.what}.`,
      },
    ]
    process.exitCode = 0
    for (const [i, scene] of scenes.entries()) {
      const answer = await runInBackground(
        {
          kind: 'explain',
          source: { pid },
          range: scene.range,
          request: 'io_uring:register-buffers',
          options: {},
          release: 'host',
        },
        `reading process ${pid}`,
      )
      if (answer.verdict.ok !== scene.ok) process.exitCode = 1
      process.stdout.write(
        `${i === 0 ? '' : '\n'}${introduce(scene, terminal.width)}\n\n${reportExplain(answer, terminal)}`,
      )
    }
  } finally {
    child.end()
  }
}

function introduce({ title }: Scene, width: number): string {
  return wrap(title, width).join('\n')
}
