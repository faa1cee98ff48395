// Bans as decisions of CrowdSec, which its bouncers enforce: on this machine, on others, in front of web servers.

import { type BanFeed, type BanOptions, type Change, followBans, run } from './bans.js';

/** CrowdSec has no decisions for ever: a ban ends there after ten years. */
const MAX_SECONDS = 10 * 365 * 86_400;

/** `command` is the program cscli. */
export function banInCrowdSec(options: BanOptions & { command?: string }): BanFeed {
  const { command = 'cscli', ...others } = options;
  const decisions = (args: readonly string[], input?: string) =>
    run(command, ['decisions', ...args], input).catch(options.onError);
  return followBans(others, async (changes) => {
    const banned = changes.filter(({ seconds }) => seconds > 0).map(decisionOf);
    if (banned.length > 0) {
      await decisions(['import', '--input', '-', '--format', 'json'], JSON.stringify(banned));
    }
    for (const { network } of changes.filter(({ seconds }) => seconds === 0)) {
      const [option] = scopeOf(network);
      await decisions(['delete', '--origin', 'cscli-import', option, network]);
    }
  });
}

function decisionOf({ network, seconds }: Change): object {
  const [, scope] = scopeOf(network);
  const duration = `${Math.min(seconds, MAX_SECONDS)}s`;
  return { duration, reason: 'relay-limiter', scope, type: 'ban', value: network };
}

function scopeOf(network: string): readonly [option: string, scope: string] {
  return network.includes('/') ? ['--range', 'Range'] : ['--ip', 'Ip'];
}
