// The page: what the server tells, put where it belongs.

import type { Hello, Lift, ListedBan, Listing, Sample } from '../messages.js';
import { lineChart, stackedChart } from './charts.js';
import { type Column, type Moment, type Series, seriesOf } from './series.js';
import { watch } from './stream.js';
import { PeerTable, write } from './table.js';
import { bytes, count, keyText, milliseconds, share, short, timeLeft } from './text.js';

const VERDICTS = ['allow', 'delay', 'disconnect'] as const;

const MOST_VIOLATORS = 10;
/** What the charts show at least. */
const LEAST_SECONDS = 60;

interface Figure {
  readonly column: Column;
  readonly format: (value: number) => string;
  /** Least height of its chart: below it is as good as nothing. */
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
let listing: Listing = { at: 0, banned: 0, bans: [], violators: [] };
let series: Series = { times: [], moments: [] };
let hovered: number | null = null;

const byId = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E;
const choice = byId<HTMLSelectElement>('limiter');

const drawVerdicts = stackedChart(byId('verdicts-chart'), (index) => {
  hovered = index;
  showVerdicts();
});
const drawFigures = FIGURES.map(({ column, least }) =>
  lineChart(byId(`${column}-chart`), column, least),
);

const limiterName = (limiter: number) => hello?.limiters[limiter]?.name ?? '';
const body = (id: string) => byId(id).querySelector('tbody') as HTMLTableSectionElement;
const bans = new PeerTable<ListedBan>({
  body: body('bans'),
  empty: byId('no-bans'),
  limiterName,
  more: ({ secondsLeft }) => timeLeft(secondsLeft - (Date.now() - listedAt) / 1000),
  action: liftButton,
});
const violators = new PeerTable({
  body: body('violators'),
  empty: byId('no-violators'),
  limiterName,
});
/** By this machine's clock, which need not be the server's. */
let listedAt = Date.now();

watch({
  hello(next) {
    hello = next;
    samples = [...next.samples];
    document.title = next.title;
    write(byId('title'), next.title);
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
  const option = (text: string, value: string) => new Option(text, value);
  const named = limiters.map(({ name, kind }, i) => option(`${name} (${kind})`, String(i)));
  choice.replaceChildren(option('All limiters', 'all'), ...named);
  choice.value = named.some(({ value }) => value === chosen) ? chosen : 'all';
}

function chosenLimiter(): number | 'all' {
  return choice.value === 'all' || choice.value === '' ? 'all' : Number(choice.value);
}

function showSamples(): void {
  if (hello === undefined) return;
  const isSum = chosenLimiter() === 'all' && hello.limiters.length > 1;
  write(byId('tracked-note'), isSum ? 'in sum' : '');
  series = seriesOf(samples, chosenLimiter());
  const to = series.times.at(-1) ?? Date.now() / 1000;
  // A minute at first, then as long as there is history.
  const shown = Math.max(LEAST_SECONDS, to - (series.times[0] ?? to));
  const from = to - Math.min(shown, hello.historySeconds);
  drawVerdicts(series, from, to);
  for (const draw of drawFigures) draw(series, from, to);
  for (const { column, format } of FIGURES) {
    const value = series.moments.at(-1)?.[column] ?? null;
    write(byId(column), value === null ? '–' : format(value));
  }
  showVerdicts();
}

/** The rates of the moment under the pointer, else the latest. */
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
  // The same list may come again, where making a new one is dear.
  if (next.at !== listing.at) listedAt = Date.now();
  listing = next;
  showLists();
}

function showLists(): void {
  const limiter = chosenLimiter();
  const isChosen = (entry: { limiter: number }) => limiter === 'all' || entry.limiter === limiter;
  const shown = listing.bans.filter(isChosen);
  bans.show(shown);
  violators.show(listing.violators.filter(isChosen).slice(0, MOST_VIOLATORS));
  const some = listing.banned > listing.bans.length;
  const note = some ? `the ${listing.bans.length} longest of ${count(listing.banned)}` : '';
  write(byId('bans-note'), note);
}

function liftButton(ban: ListedBan): HTMLElement | undefined {
  if (!hello?.allowLift) return undefined;
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Lift';
  button.title = 'Forgets the peer: its ban, its violations, and what it has used of its limits';
  button.setAttribute('aria-label', `Lift the ban of ${keyText(ban.key, ban.length).short}`);
  button.addEventListener('click', async () => {
    button.disabled = true;
    const { key, hash } = ban;
    const outcome = await lift({ limiter: limiterName(ban.limiter), key, hash });
    write(byId('news'), `${outcome} ${keyText(key, ban.length).short}`);
    button.disabled = false;
  });
  return button;
}

/** What became of it, up to the key. */
async function lift(what: Lift): Promise<string> {
  try {
    const headers = { 'Content-Type': 'application/json' };
    const request = { method: 'POST', headers, body: JSON.stringify(what) };
    const { ok, status } = await fetch('lift', request);
    if (ok) return 'Lifted the ban of';
    if (status === 404) return 'There is no ban any more of';
  } catch {
    // Said below.
  }
  return 'Could not lift the ban of';
}
