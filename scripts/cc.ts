/** The C compiler for tests and benchmarks: the same one that builds the oracle agent. */
export { build, findCompiler } from '../src/host/compile.ts'
export type { Built, Program } from '../src/host/compile.ts'
