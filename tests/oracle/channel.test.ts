import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { OracleChannel } from '../../src/host/oracle-channel.ts'

function pair(timeout = 0) {
  const to = new PassThrough()
  const from = new PassThrough()
  return { to, from, channel: new OracleChannel(to, from, timeout) }
}

test('R-AG-13: replies go to their batch, in order, whatever the chunks', async () => {
  const { from, channel } = pair()
  const first = channel.send(['a', 'b'])
  const second = channel.send(['c'])
  const text = '{"r":1,"e":0}\r\n{"r":2,"e":0}\n{"r":3,"e":0}\n'
  for (const char of text) from.write(char)
  expect(await first).toEqual([
    { r: 1, e: 0 },
    { r: 2, e: 0 },
  ])
  expect(await second).toEqual([{ r: 3, e: 0 }])
})

test('R-AG-13: messages of a kernel on a serial line are kept apart from replies', async () => {
  const { from, channel } = pair()
  const reply = channel.send(['nop'])
  from.write('[    0.1] random: crng init done\n[    0.2] half a line {"r":7,"e":0}\n')
  expect(await reply).toEqual([{ r: 7, e: 0 }])
  expect(channel.noise).toEqual(['[    0.1] random: crng init done'])
})

test("R-AG-13: the greeting of an agent that is process 1 is nobody's reply", async () => {
  const { from, channel } = pair()
  const reply = channel.send(['nop'])
  from.write('{"r":0,"e":0,"ready":true}\n{"r":8,"e":0}\n')
  await channel.ready
  expect(await reply).toEqual([{ r: 8, e: 0 }])
})

test('R-AG-13: after the end the line in flight is DIED, the others NOT RUN', async () => {
  const { from, channel } = pair()
  const first = channel.send(['a', 'b', 'c'])
  const second = channel.send(['d'])
  from.write('{"r":1,"e":0}\n{"r":2')
  await sleep(5)
  channel.end({ e: 'DIED', status: 9 })
  expect((await first).map(({ e }) => e)).toEqual([0, 'DIED', 'NOT RUN'])
  expect((await second).map(({ e }) => e)).toEqual(['NOT RUN'])
  expect(await channel.send(['e'])).toEqual([{ r: -1, e: 'NOT RUN' }])
})

test('R-AG-13: process 1 tells of the end of its agent: that is the line in flight', async () => {
  const { from, channel } = pair()
  const replies = channel.send(['a', 'b', 'c'])
  from.write('{"r":1,"e":0}\n\n{"r":-1,"e":"DIED","status":11,"agent":true}\n')
  expect((await replies).map(({ e }) => e)).toEqual([0, 'DIED', 'NOT RUN'])
  expect(channel.ended).toBe(true)
})

test('R-AG-13: silence is told once per wait, answers start the clock anew', async () => {
  const { from, channel } = pair(40)
  let hangs = 0
  channel.onHang = () => hangs++
  void channel.send(['a', 'b', 'c'])
  await sleep(25)
  from.write('{"r":1,"e":0}\n')
  await sleep(25)
  expect(hangs).toBe(0)
  await sleep(60)
  expect(hangs).toBe(1)
  channel.end({ e: 'HUNG' })
})
