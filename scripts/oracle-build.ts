/** `npm run oracle:build`: compiles the oracle agent with whatever C compiler there is and prints where it lies. */
import { buildOracleAgent } from '../src/host/oracle-build.ts'

const built = buildOracleAgent()
if ('skip' in built) {
  console.error(`oracle: ${built.skip}`)
  process.exitCode = 2
} else console.log(built.path)
