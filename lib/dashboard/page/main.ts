// The main script of the page: shows the server's events in the charts and tables.

import {
  type BanEvent,
  decodeSeconds,
  type Hello,
  type Listed,
  type ListedBan,
  type ListedRule,
  type Listing,
  NO_LISTING,
  type Sample,
} from '../messages.js';
import { lift, liftedBan } from './actions.js';
import { lineChart, stackedChart } from './charts.js';
import { offerFleet, showFleet } from './fleet.js';
import { follow } from './follow.js';
import { type GuardRow, guardRows } from './guards.js';
import { PeerSearch } from './search.js';
import { type Column, type Moment, type Series, seriesOf } from './series.js';
import { keyElement, LiveTable, nameElement, note, write } from './table.js';
import { bytes, clockTime, count, keyText, milliseconds, share, short, timeLeft } from './text.js';

const VERDICTS = ['allow', 'delay', 'disconnect'] as const;

const MAX_VIOLATORS = 10;
/** The minimum time span of the charts. */
const MIN_SECONDS = 60;

interface Figure {
  readonly column: Column;
  readonly format: (value: number) => string;
  /** The minimum upper end of the chart's scale, so that small values look small. */
  readonly least: number;
}

const FIGURES: readonly Figure[] = [
  { column: 'tracked', format: short, least: 10 },
  { column: 'banned', format: short, least: 4 },
  { column: 'bytes', format: bytes, least: 1 },
  { column: 'loopDelay', format: milliseconds, least: 20 },
];

let hello: Hello | undefined;
let samples: Sample[] = [];
let listing: Listing = NO_LISTING;
/** The arrival of the listing by this machine's clock, which may differ from the server's. */
let listedAt = Date.now();
let series: Series = { times: [], moments: [] };
let hovered: number | null = null;

const byId = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E;
const choice = byId<HTMLSelectElement>('limiter');

const hover = (index: number | null) => {
  hovered = index;
  showVerdicts();
};
// Two charts with separate scales: in one chart a flood would make the allowed checks a flat line.
const drawAllowed = stackedChart(byId('allow-chart'), ['allow'], hover);
const drawRefused = stackedChart(byId('refused-chart'), ['disconnect', 'delay'], hover);
const drawFigures = FIGURES.map(({ column, least }) =>
  lineChart(byId(`${column}-chart`), column, least),
);

const limiterName = (limiter: number) => hello?.limiters[limiter]?.name ?? '';
const idOf = ({ limiter, key, hash = '' }: Listed) => `${limiter} ${hash} ${key}`;
const peerHead = ({ limiter, key, length, hash }: Listed) => [
  keyElement(key, length, hash),
  note(limiterName(limiter)),
];
const bans = new LiveTable<ListedBan>({
  table: byId<HTMLTableElement>('bans'),
  empty: byId('no-bans'),
  title: byId('bans-title'),
  id: idOf,
  head: peerHead,
  columns: [({ violations }) => count(violations), (ban) => timeLeft(secondsLeft(ban))],
  action: liftButton,
});
const violators = new LiveTable<Listed>({
  table: byId<HTMLTableElement>('violators'),
  empty: byId('no-violators'),
  title: byId('violators-title'),
  id: idOf,
  head: peerHead,
  columns: [({ violations }) => count(violations)],
});
const began = new LiveTable<BanEvent>({
  table: byId<HTMLTableElement>('began'),
  empty: byId('none-began'),
  title: byId('began-title'),
  id: ({ number }) => String(number),
  head: peerHead,
  columns: [({ at }) => clockTime(at), ({ seconds }) => timeLeft(decodeSeconds(seconds))],
});
const rules = new LiveTable<ListedRule>({
  table: byId<HTMLTableElement>('rules'),
  empty: byId('no-rules'),
  title: byId('rules-title'),
  id: ({ rule, scope }) => JSON.stringify([rule, scope]),
  head: ({ rule, scope }) => [nameElement(rule), note(scope)],
  columns: [
    ({ perSecond }) => short(perSecond),
    ({ refused }) => count(refused),
    ({ dryRunRefused }) => count(dryRunRefused),
  ],
});
const optional = (value: number | undefined) => (value === undefined ? '' : short(value));
const unlessZero = (value: number, { reason }: GuardRow) =>
  value === 0 && reason !== undefined ? '' : short(value);
const guards = new LiveTable<GuardRow>({
  table: byId<HTMLTableElement>('guards'),
  empty: byId('no-guards'),
  title: byId('guards-title'),
  id: ({ guard, reason }) => JSON.stringify([guard, reason]),
  head: ({ guard, reason }) => [reason === undefined ? nameElement(guard) : note(reason)],
  columns: [
    ({ open }) => optional(open),
    ({ paused }) => optional(paused),
    (row) => unlessZero(row.refused, row),
    (row) => unlessZero(row.dropped, row),
    (row) => unlessZero(row.closed, row),
  ],
});

new PeerSearch({
  limiter: (place) => hello?.limiters[place],
  allowLift: () => hello?.allowLift ?? false,
  secondsLeft(limiter, key) {
    const ban = listing.bans.find((each) => each.limiter === limiter && each.key === key);
    return ban?.hash === undefined && ban !== undefined ? secondsLeft(ban) : undefined;
  },
});

follow({
  hello(next) {
    hello = next;
    samples = [...next.samples];
    document.title = next.title;
    write(byId('title'), next.title);
    byId('rules-card').hidden = !next.hasRules;
    byId('guards-card').hidden = !next.hasGuards;
    offerFleet(next);
    offerLimiters(next);
    showListing(next.listing);
    showSamples();
  },
  sample(sample) {
    samples.push(sample);
    if (hello !== undefined && samples.length > hello.historySeconds / hello.intervalSeconds) {
      samples.shift();
    }
    showSamples();
  },
  listing: showListing,
  trouble(why) {
    document.body.classList.toggle('lost', why !== undefined);
    write(byId('status'), why ?? 'Live');
  },
});
choice.addEventListener('change', () => {
  showSamples();
  showLists();
});

function offerLimiters({ limiters }: Hello): void {
  const chosen = choice.value;
  const texts = ['All limiters', ...limiters.map(({ name, kind }) => `${name} (${kind})`)];
  // Replacing unchanged options would close an open list.
  if (texts.join('\n') === [...choice.options].map(({ text }) => text).join('\n')) return;
  const options = texts.map((text, i) => new Option(text, i === 0 ? 'all' : String(i - 1)));
  choice.replaceChildren(...options);
  choice.value = options.some(({ value }) => value === chosen) ? chosen : 'all';
}

function chosenLimiter(): number | 'all' {
  return choice.value === 'all' || choice.value === '' ? 'all' : Number(choice.value);
}

/** The places of the limiters that are shown: those of scopes are in the sums of their RuleLimiters. */
function shownPlaces(limiters: Hello['limiters']): number[] {
  const chosen = chosenLimiter();
  if (chosen !== 'all') return [chosen];
  return limiters.flatMap(({ whole }, place) => (whole === null ? [place] : []));
}

/** Whether a limiter is shown, by its place. */
function isShown(place: number): boolean {
  const chosen = chosenLimiter();
  return chosen === 'all' || place === chosen || hello?.limiters[place]?.whole === chosen;
}

function trackedNote(limiters: Hello['limiters']): string {
  const chosen = chosenLimiter();
  if (chosen === 'all') return limiters.length > 1 ? 'sum of all limiters' : '';
  return limiters.some(({ whole }) => whole === chosen) ? 'sum of all scopes' : '';
}

function liftNote(limiters: Hello['limiters']): string {
  const kinds = new Set(
    limiters.flatMap(({ liftForgets }, place) => (isShown(place) ? [liftForgets] : [])),
  );
  const what = 'its violations, and what it has used of its limits';
  const forgets = `Lifting a ban forgets the peer: ${what}`;
  if (!kinds.has(false)) return `${forgets}.`;
  return kinds.has(true)
    ? `${forgets}; a scope of rules keeps them.`
    : `Lifting a ban keeps the rest of the peer: ${what}.`;
}

function showSamples(): void {
  if (hello === undefined) return;
  write(byId('tracked-note'), trackedNote(hello.limiters));
  series = seriesOf(samples, shownPlaces(hello.limiters));
  const to = series.times.at(-1) ?? Date.now() / 1000;
  // Starts with a minute and grows with the history.
  const shown = Math.max(MIN_SECONDS, to - (series.times[0] ?? to));
  const from = to - Math.min(shown, hello.historySeconds);
  for (const draw of [drawAllowed, drawRefused, ...drawFigures]) draw(series, from, to);
  for (const { column, format } of FIGURES) {
    const value = series.moments.at(-1)?.[column] ?? null;
    write(byId(column), value === null ? '–' : format(value));
  }
  showVerdicts();
}

/** Shows the rates of the moment under the pointer, or the latest ones. */
function showVerdicts(): void {
  const moment = series.moments[hovered ?? series.moments.length - 1];
  for (const verdict of VERDICTS) {
    const rate = moment?.[verdict] ?? null;
    write(byId(verdict), rate === null ? '–' : short(rate));
  }
  write(byId('refused'), refusedShare(moment));
}

function refusedShare(moment: Moment | undefined): string {
  if (moment === undefined || moment.allow === null) return '';
  const refused = (moment.delay ?? 0) + (moment.disconnect ?? 0);
  const all = moment.allow + refused;
  return all === 0 ? 'no checks' : `${share(refused, all)} refused`;
}

function showListing(next: Listing): void {
  // The server may send the same listing again, if a new one is expensive.
  if (next.at !== listing.at) listedAt = Date.now();
  listing = next;
  showLists();
}

function showLists(): void {
  const isChosen = (entry: { limiter: number }) => isShown(entry.limiter);
  bans.show(listing.bans.filter(isChosen));
  violators.show(listing.violators.filter(isChosen).slice(0, MAX_VIOLATORS));
  began.show(listing.began.filter(isChosen));
  rules.show(listing.rules.filter(isRuleShown));
  guards.show(guardRows(listing.guards));
  showFleet(listing);
  if (hello !== undefined) {
    byId('lift-note').hidden = !hello.allowLift;
    write(byId('lift-note'), liftNote(hello.limiters));
  }
  const some = listing.banned > listing.bans.length;
  const text = some ? `the ${listing.bans.length} longest of ${count(listing.banned)}` : '';
  write(byId('bans-note'), text);
}

/** A rule is shown with its RuleLimiter and with its scope. */
function isRuleShown({ whole, scope }: ListedRule): boolean {
  const chosen = chosenLimiter();
  return isShown(whole) || (chosen !== 'all' && limiterName(chosen) === scope);
}

function secondsLeft(ban: ListedBan): number {
  return decodeSeconds(ban.secondsLeft) - (Date.now() - listedAt) / 1000;
}

function liftButton(ban: ListedBan): HTMLElement | undefined {
  if (!hello?.allowLift) return undefined;
  const { key, length, hash } = ban;
  const limiter = limiterName(ban.limiter);
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Lift';
  button.setAttribute(
    'aria-label',
    `Lift the ban of ${keyText(key, length, hash).short} in ${limiter}`,
  );
  button.setAttribute('aria-describedby', 'lift-note');
  let isPending = false;
  button.addEventListener('click', async () => {
    // The button is not disabled meanwhile, because it would lose the focus.
    if (isPending) return;
    isPending = true;
    const place = bans.placeOf(button);
    const hadFocus = document.activeElement === button;
    const how = hello?.limiters[ban.limiter]?.ban ?? null;
    const listed = listing.bans.find((each) => idOf(each) === idOf(ban)) ?? ban;
    const lifted = how === null ? null : liftedBan(secondsLeft(listed), listed.violations, how);
    const isLifted = await lift({ limiter, key, length, hash }, lifted);
    isPending = false;
    if (!isLifted || !hadFocus) return;
    // The listing without this ban may arrive before or after the response.
    listing = { ...listing, bans: listing.bans.filter((each) => idOf(each) !== idOf(ban)) };
    showLists();
    if (document.activeElement === byId('bans-title')) bans.focus(place);
  });
  return button;
}
