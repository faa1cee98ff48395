// Bans in the Linux firewall: each ban of an address becomes an element of a set of nftables, with a timeout.

import { type BanFeed, type BanOptions, type Change, followBans, run } from './bans.js';

/** nft reads numbers of up to eight digits: a longer ban ends in the firewall after three years. */
const MAX_SECONDS = 99_999_999;

/** `command` is the nft program, `table` the table with the sets. */
export function banInNftables(options: BanOptions & { command?: string; table?: string }): BanFeed {
  const { command = 'nft', table = 'relay_limiter', ...others } = options;
  return followBans(others, (changes) => run(command, ['-f', '-'], commandsFor(table, changes)));
}

function commandsFor(table: string, changes: readonly Change[]): string {
  const isIPv6 = ({ network }: Change) => network.includes(':');
  const ipv4 = changes.filter((change) => !isIPv6(change));
  return [
    ...commandsForSet(`inet ${table} banned4`, ipv4),
    ...commandsForSet(`inet ${table} banned6`, changes.filter(isIPv6)),
  ].join('');
}

/**
 * nft runs all commands or none. An element is added before it is deleted, since deleting an unknown element fails; and
 * deleted before it is added with a timeout, since before Linux 6.12 an element keeps its first timeout.
 */
function commandsForSet(set: string, changes: readonly Change[]): string[] {
  const commandOf = (verb: string, elements: readonly string[]) =>
    elements.length === 0 ? '' : `${verb} element ${set} { ${elements.join(', ')} }\n`;
  const all = changes.map(elementOf);
  const banned = changes.filter(({ seconds }) => seconds > 0);
  const timed = banned.map((change) => `${elementOf(change)}${timeoutOf(change)}`);
  return [commandOf('add', all), commandOf('delete', all), commandOf('add', timed)];
}

/** The first address of the network; the rule of the set masks the address of a packet. */
function elementOf({ network }: Change): string {
  return network.replace(/\/.*/, '');
}

function timeoutOf({ seconds }: Change): string {
  return seconds === Infinity ? '' : ` timeout ${Math.min(seconds, MAX_SECONDS)}s`;
}
