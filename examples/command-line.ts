// Helpers for the command lines of the demonstrations and the soak.

import { type ParseArgsConfig, parseArgs } from 'node:util';

/** A flag that is not accepted. */
export class WrongFlag extends Error {}

/** Parses the flags in `options`. @throws WrongFlag for any other flag. */
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

/** Parses a whole number from `least` to `most`. @throws WrongFlag if `text` is not such a number. */
export function wholeNumber(flag: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= least && number <= most) return number;
  throw new WrongFlag(`${flag} takes a whole number from ${least} to ${most}, not "${text}"`);
}

/** Prints the error, and for a wrong flag how to get help. Returns the exit code. */
export function failed(command: string, help: string, error: unknown): number {
  const isWrongFlag = error instanceof WrongFlag;
  const what = error instanceof Error ? error.message : error;
  console.error(`${command}: ${what}${isWrongFlag ? ` (${help})` : ''}`);
  return isWrongFlag ? 2 : 1;
}
