// The cards of the fleet: the verdicts of all processes of shared limits, the peers with most refusals, and the bans.

import {
  decodeSeconds,
  type Hello,
  type Listing,
  type PeerKey,
  type Seconds,
} from '../messages.js';
import { keyElement, LiveTable, nameElement, note, write } from './table.js';
import { count, short, timeLeft } from './text.js';

const byId = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E;

/** A peer in a table, with the name of its limit. */
type Peer = PeerKey & { readonly of: string };

/** What is not known yet. */
const UNKNOWN = '–';

const idOf = ({ of, key, hash = '' }: Peer) => JSON.stringify([of, hash, key]);
const head = ({ of, key, length, hash }: Peer) => [keyElement(key, length, hash), note(of)];

const fleets = new LiveTable<Listing['fleets'][number]>({
  table: byId<HTMLTableElement>('fleets'),
  empty: byId('no-fleets'),
  title: byId('fleets-title'),
  // The note is a part of the row's head, which does not change.
  id: ({ name, isLost }) => JSON.stringify([name, isLost]),
  head: ({ name, isLost }) => {
    return isLost ? [nameElement(name), note('the store does not answer')] : [nameElement(name)];
  },
  columns: [
    ({ nodes }) => (nodes === null ? UNKNOWN : count(nodes)),
    ({ perSecond }) => (perSecond === null ? UNKNOWN : short(perSecond[0])),
    ({ perSecond }) => (perSecond === null ? UNKNOWN : short(perSecond[1])),
    ({ verdicts }) => (verdicts === null ? UNKNOWN : short(verdicts[1] + verdicts[2])),
  ],
});
const offenders = new LiveTable<Peer & { readonly refusals: number }>({
  table: byId<HTMLTableElement>('offenders'),
  empty: byId('no-offenders'),
  title: byId('offenders-title'),
  id: idOf,
  head,
  columns: [({ refusals }) => count(refusals)],
});
const bans = new LiveTable<Peer & { readonly secondsLeft: Seconds }>({
  table: byId<HTMLTableElement>('shared-bans'),
  empty: byId('no-shared-bans'),
  title: byId('shared-bans-title'),
  id: idOf,
  head,
  columns: [({ secondsLeft }) => timeLeft(decodeSeconds(secondsLeft))],
});

/** Shows the cards that there is something for. */
export function offerFleet({ hasFleets, hasSharedBans, limiters }: Hello): void {
  byId('fleet').hidden = !(hasFleets || hasSharedBans);
  byId('fleets-card').hidden = !hasFleets;
  byId('offenders-card').hidden = !hasFleets;
  byId('shared-bans-card').hidden = !hasSharedBans;
  document.body.classList.toggle('only-fleet', limiters.length === 0);
}

export function showFleet({ fleets: listed, sharedBans }: Listing): void {
  fleets.show(listed);
  const refused = listed.flatMap(({ name, offenders }) =>
    offenders.map(({ scope, ...peer }) => {
      return { ...peer, of: scope === undefined ? name : `${name} / ${scope}` };
    }),
  );
  offenders.show(refused.sort((a, b) => b.refusals - a.refusals));
  const banned = sharedBans.flatMap(({ name, bans }) => bans.map((ban) => ({ ...ban, of: name })));
  bans.show(banned);
  const all = sharedBans.reduce((sum, { banned }) => sum + banned, 0);
  const isMore = all > banned.length;
  write(byId('shared-bans-note'), isMore ? `the ${banned.length} longest of ${count(all)}` : '');
}
