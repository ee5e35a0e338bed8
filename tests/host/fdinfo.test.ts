import { expect, test } from 'vitest'
import { parseIoUringFdinfo } from '../../src/host/fdinfo.ts'

const head = 'pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t16855\n'
const counters =
  'SqMask:\t0x7\nSqHead:\t0\nSqTail:\t0\nCachedSqHead:\t0\nCqMask:\t0xf\nCqHead:\t0\nCqTail:\t0\nCachedCqTail:\t0\nSQEs:\t0\nCQEs:\t0\nSqThread:\t-1\nSqThreadCpu:\t-1\n'

test('R-FD-3 buffers are listed as registered, with the ring’s own inode', () => {
  const info = parseIoUringFdinfo(
    `${head}${counters}UserFiles:\t0\nUserBufs:\t2\n    0: 0x7f0000000064/5000\n    1: 0x7f0000010000/65536\nPollList:\n`,
  )
  expect(info).toEqual({
    inode: 16855,
    busy: false,
    buffers: [
      { index: 0, address: 0x7f0000000064, length: 5000 },
      { index: 1, address: 0x7f0000010000, length: 65536 },
    ],
  })
})

test('HOST vector 25, R-URING-88: sparse slots of [6.18] are <none>', () => {
  const info = parseIoUringFdinfo(
    `${head}${counters}UserFiles:\t0\nUserBufs:\t4\n    0: <none>\n    1: 0x7f0000000064/5000\n    2: <none>\n    3: <none>\nPollList:\n`,
  )
  expect(info.buffers).toEqual([null, { index: 1, address: 0x7f0000000064, length: 5000 }, null, null])
  expect(info.busy).toBe(false)
})

test('HOST vector 26, R-URING-88: the empty slot of [6.1]', () => {
  const info = parseIoUringFdinfo(`${head}${counters}UserBufs:\t1\n    0: 0xffffffffffffffff/1\nPollList:\n`)
  expect(info).toMatchObject({ busy: false, buffers: [null] })
})

test('HOST vector 27, R-URING-88: the empty slot of [6.12]', () => {
  const info = parseIoUringFdinfo(
    `${head}${counters}UserBufs:\t1\n    0: 0xffffffffffffffff/4294967295\nPollList:\n`,
  )
  expect(info).toMatchObject({ busy: false, buffers: [null] })
})

test('HOST vector 28, R-URING-86: without SqMask the ring is busy, not without buffers', () => {
  expect(parseIoUringFdinfo(head)).toEqual({ inode: 16855, busy: true, buffers: [] })
})

test('HOST vector 29, R-URING-86: a count without slots is busy', () => {
  expect(parseIoUringFdinfo(`${head}${counters}UserFiles:\t2\nUserBufs:\t3\nPollList:\n`)).toMatchObject({
    busy: true,
    buffers: [],
  })
})

test('R-FD-3 a ring without buffers is not busy; file slots are not buffers', () => {
  const info = parseIoUringFdinfo(
    `${head}${counters}UserFiles:\t2\n    0: null\n    1: /dev/null\nUserBufs:\t0\nPollList:\n`,
  )
  expect(info).toEqual({ inode: 16855, busy: false, buffers: [] })
})
