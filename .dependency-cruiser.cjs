// The floors of the house: imports only ever go down. `npm run lint` runs this over src/, and
// tests/ground/floors.test.ts proves on a throw-away tree that each rule bites.
const floors = [
  ['base'],
  ['memory'],
  ['mm'],
  ['ipc', 'task'],
  ['io_uring', 'drivers', 'net', 'virt', 'arch', 'security', 'host'],
  ['explain', 'replay', 'check', 'conform', 'gup-test'],
  ['cli', 'web'],
]
const engine = [
  'base',
  'memory',
  'mm',
  'ipc',
  'task',
  'io_uring',
  'drivers',
  'net',
  'virt',
  'arch',
  'security',
]

const anyOf = (folders) => `^src/(${folders.join('|')})/`

const upward = floors.slice(0, -1).map((floor, level) => ({
  name: `floor-${level}-imports-only-down`,
  comment: `${floor.join(', ')} (floor ${level}) must not import from a higher floor`,
  severity: 'error',
  from: { path: anyOf(floor) },
  to: { path: anyOf(floors.slice(level + 1).flat()) },
}))

const neighbours = floors[4].map((folder) => ({
  name: `floor-4-${folder}-alone`,
  comment: 'the callers of GUP and host/ do not know each other',
  severity: 'error',
  from: { path: anyOf([folder]) },
  to: { path: anyOf(floors[4].filter((other) => other !== folder)) },
}))

module.exports = {
  forbidden: [
    ...upward,
    ...neighbours,
    {
      name: 'known-folders-only',
      comment: 'every folder of src/ has a floor; give a new one its place in this file first',
      severity: 'error',
      from: { path: '^src/[^/]+/', pathNot: anyOf(floors.flat()) },
      to: {},
    },
    {
      name: 'no-import-of-entry-files',
      comment: 'src/index.ts, src/kernel.ts and src/devices.ts only re-export, for users of the library',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^src/[^/]+$' },
    },
    {
      name: 'entries-run-in-a-browser',
      comment: "what needs Node is reached through 'pinscope/host' or the command line",
      severity: 'error',
      from: { path: '^src/(index|kernel|devices)\\.ts$' },
      to: { path: '^src/(host|cli)/', reachable: true },
    },
    {
      name: 'engine-without-node',
      comment: 'the engine runs unchanged in a browser: no Node API',
      severity: 'error',
      from: { path: anyOf(engine) },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'engine-without-packages',
      comment: 'the engine has no dependency',
      severity: 'error',
      from: { path: anyOf(engine) },
      to: {
        dependencyTypes: [
          'npm',
          'npm-dev',
          'npm-optional',
          'npm-peer',
          'npm-bundled',
          'npm-no-pkg',
          'npm-unknown',
        ],
      },
    },
    {
      name: 'nothing-outside-src',
      comment: 'what is shipped does not import tests, scripts or bench',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(tests|scripts|bench|examples)/' },
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: { path: '^src/' },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // Type-only imports obey the floors as well.
    tsPreCompilationDeps: true,
  },
}
