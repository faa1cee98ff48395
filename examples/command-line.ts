// What the command lines of the demonstrations and of the soak have in common.

import { type ParseArgsConfig, parseArgs } from 'node:util';

/** A flag that is not accepted. */
export class WrongFlag extends Error {}

/** @throws WrongFlag for flags that are none of `options`. */
export function parseFlags<const Options extends NonNullable<ParseArgsConfig['options']>>(
  args: string[],
  options: Options,
): ReturnType<typeof parseArgs<{ args: string[]; options: Options }>>['values'] {
  try {
    return parseArgs({ args, options }).values;
  } catch (error) {
    // Node adds advice after the first sentence.
    throw new WrongFlag(String((error as Error).message).split(/[.\n]/)[0]);
  }
}

/** @throws WrongFlag unless `text` is such a number. */
export function wholeNumber(flag: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= least && number <= most) return number;
  throw new WrongFlag(`${flag} takes a whole number from ${least} to ${most}, not "${text}"`);
}

/** Says what went wrong, and of a wrong flag where `help` is; returns the exit code. */
export function failed(command: string, help: string, error: unknown): number {
  const isWrongFlag = error instanceof WrongFlag;
  const what = error instanceof Error ? error.message : error;
  console.error(`${command}: ${what}${isWrongFlag ? ` (${help})` : ''}`);
  return isWrongFlag ? 2 : 1;
}
