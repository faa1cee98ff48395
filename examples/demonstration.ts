// What the programs of the demonstrations have in common.

import { failed } from './command-line.js';
import { INTERRUPTED, interruption } from './interruption.js';

/** Runs the command `npm run NAME` with the flags of this process, or prints `help`. Returns the exit code. */
export async function runCommand<Flags extends { help: boolean }>(
  name: string,
  help: string,
  readFlags: (args: string[]) => Flags,
  run: (flags: Flags) => Promise<number>,
): Promise<number> {
  try {
    const flags = readFlags(process.argv.slice(2));
    if (!flags.help) return await run(flags);
    console.log(help);
    return 0;
  } catch (error) {
    if (interruption.aborted) return INTERRUPTED;
    return failed(name, `npm run ${name} -- --help`, error);
  }
}
