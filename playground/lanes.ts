// The pictures: all messages, and a lane for each sender with its buckets, tokens, verdicts and bans. A lane is drawn once for
// a simulation; `show` moves its cursor and its buckets.

import { area, bars, count, highest, line, OUTCOMES, points, WIDTH } from './chart.js';
import { drawing, element } from './dom.js';
import { format, seconds } from './numbers.js';
import { type Attempt, attemptAt, type Lane, type Timeline, tokensAt } from './simulate.js';

const TOKENS_HEIGHT = 100;
const VERDICTS_HEIGHT = 40;
/** Bars of a picture: one per second. */
const INTERVALS = 60;
/** A verdict is shown for so many seconds. */
const FRESH = 1;
/** Intervals of an axis, as the grid in page.css. */
const TICKS = 6;
/** Colours of rules. */
const COLORS = 4;

/** Updates a picture to a time. */
export type Show = (time: number) => void;

/** Draws all messages into `parent`. */
export function drawOverview(parent: HTMLElement, { lanes, seconds: length }: Timeline): Show {
  const attempts = lanes.flatMap((lane) => lane.attempts).sort((a, b) => a.time - b.time);
  const counts = count(attempts, length, INTERVALS);
  const most = highest(counts);
  const perSecond = format((most * INTERVALS) / length);
  const numbers = element('p', { class: 'numbers' });
  parent.replaceChildren(
    element('div', { class: 'who' }, [
      element('h3', {}, ['All messages']),
      numbers,
      element('p', { class: 'numbers' }, [`peak: ${perSecond} per second`]),
    ]),
    element('div', {}, [
      plot([verdicts(counts, most, `All messages, at most ${perSecond} per second`)]),
      axis(length),
    ]),
  );
  const allowed = allowedBefore(attempts);
  return (time) => {
    numbers.textContent = passed(attempts, allowed, time);
  };
}

/** Draws the lanes of all senders into `parent`. */
export function drawLanes(parent: HTMLElement, timeline: Timeline): Show {
  const drawn = timeline.lanes.map((lane, index) => drawLane(lane, index, timeline.seconds));
  parent.replaceChildren(...drawn.map(({ article }) => article));
  return (time) => {
    for (const { show } of drawn) show(time);
  };
}

function drawLane(lane: Lane, index: number, length: number) {
  const { sender, attempts, levels, counts } = lane;
  const numbers = element('p', { class: 'numbers' });
  const state = element('p', { class: 'state' });
  const buckets = levels.map((level, rule) => drawBucket(level.rule, `${index}-${rule}`, rule));
  const several =
    sender.peers === undefined || sender.peers < 2 ? '' : `the first of ${sender.peers}`;
  const perInterval = count(attempts, length, INTERVALS);
  const all = attempts.length;
  const title =
    `${sender.name}: ${counts.allow} of ${all} messages allowed, ${counts.delay} refused, ` +
    `${counts.banned} during a ban, ${counts.denied} denied`;
  const article = element('article', { class: 'card lane' }, [
    element('div', { class: 'who' }, [
      element('h3', {}, [sender.name]),
      numbers,
      state,
      element(
        'div',
        { class: 'buckets' },
        buckets.map(({ figure }) => figure),
      ),
      ...(several === '' ? [] : [element('p', { class: 'numbers' }, [`Buckets of ${several}`])]),
    ]),
    element('div', {}, [
      plot([tokens(lane, length), verdicts(perInterval, highest(perInterval), title)]),
      axis(length),
    ]),
  ]);
  const allowed = allowedBefore(attempts);
  const show: Show = (time) => {
    numbers.textContent = passed(attempts, allowed, time);
    const { outcome, text } = stateAt(lane, time);
    state.dataset['outcome'] = outcome;
    state.textContent = text;
    for (const [rule, level] of levels.entries()) {
      buckets[rule]?.fill(tokensAt(level, time), level.limit, level.unit);
    }
  };
  return { article, show };
}

function stateAt(lane: Lane, time: number): { outcome: string; text: string } {
  const ban = lane.bans.find(({ from, until }) => from <= time && time < until);
  if (ban !== undefined) {
    return { outcome: 'banned', text: `banned: ${seconds(ban.until - time)} left` };
  }
  const last = attemptAt(lane, time);
  if (last === undefined || last.time < time - FRESH) return { outcome: '', text: 'silent' };
  if (last.outcome === 'allow') return { outcome: 'allow', text: 'allowed' };
  if (last.outcome === 'denied') return { outcome: 'denied', text: 'denied' };
  const by = last.rule ?? `a full scope, ${last.scope}`;
  const wait = Number.isFinite(last.delaySeconds) ? `wait ${seconds(last.delaySeconds)}` : 'never';
  return { outcome: 'delay', text: `refused by ${by}: ${wait}` };
}

/** The number of allowed attempts among the first n, for every n. */
function allowedBefore(attempts: readonly Attempt[]): number[] {
  const sums = [0];
  for (const { outcome } of attempts) {
    sums.push((sums.at(-1) as number) + (outcome === 'allow' ? 1 : 0));
  }
  return sums;
}

function passed(attempts: readonly Attempt[], allowed: readonly number[], time: number): string {
  const after = attempts.findIndex((attempt) => attempt.time > time);
  const sent = after === -1 ? attempts.length : after;
  const through = (allowed[sent] as number).toLocaleString('en-US');
  return `${through} of ${sent.toLocaleString('en-US')} allowed`;
}

function plot(pictures: readonly Element[]): HTMLElement {
  return element('div', { class: 'plot' }, [
    ...pictures,
    element('div', { class: 'veil' }),
    element('div', { class: 'cursor' }),
  ]);
}

function tokens({ levels, bans }: Lane, length: number): SVGElement {
  const x = (time: number) => (Math.min(time, length) / length) * WIDTH;
  return drawing(
    'svg',
    {
      class: 'tokens',
      viewBox: `0 0 ${WIDTH} ${TOKENS_HEIGHT}`,
      preserveAspectRatio: 'none',
      'aria-hidden': 'true',
    },
    [
      ...bans.map(({ from, until }) =>
        drawing('rect', {
          class: 'ban',
          x: x(from),
          width: x(until) - x(from),
          y: 0,
          height: TOKENS_HEIGHT,
        }),
      ),
      ...levels.flatMap((level, rule) => {
        const path = points(level, length, TOKENS_HEIGHT);
        const color = `rule-${rule % COLORS}`;
        return [
          // The areas of several rules would mix their colours.
          ...(levels.length === 1
            ? [drawing('path', { class: `area ${color}`, d: area(path, TOKENS_HEIGHT) })]
            : []),
          drawing('path', { class: `line ${color}`, d: line(path) }),
        ];
      }),
    ],
  );
}

function verdicts(counts: readonly (readonly number[])[], most: number, title: string): SVGElement {
  return drawing(
    'svg',
    {
      class: 'verdicts',
      viewBox: `0 0 ${WIDTH} ${VERDICTS_HEIGHT}`,
      preserveAspectRatio: 'none',
      role: 'img',
      'aria-label': title,
    },
    bars(counts, most, VERDICTS_HEIGHT).map((path, index) =>
      drawing('path', { class: `bars ${OUTCOMES[index]}`, d: path }),
    ),
  );
}

function axis(length: number): HTMLElement {
  const labels = Array.from({ length: TICKS + 1 }, (_, index) => {
    const text = `${(index * length) / TICKS}${index === TICKS ? ' s' : ''}`;
    return element('span', { style: `left: ${(index / TICKS) * 100}%` }, [text]);
  });
  return element('div', { class: 'axis', 'aria-hidden': 'true' }, labels);
}

/** A bucket with water: the tokens that a rule has left. */
function drawBucket(rule: string, id: string, color: number) {
  const shape = 'M3 3 L8 38 Q8.4 40.5 11 40.5 H23 Q25.6 40.5 26 38 L31 3 Z';
  const [top, bottom] = [3, 40.5];
  const water = drawing('rect', { class: 'water', x: 0, width: 34, y: bottom, height: 42 });
  const amount = element('span');
  const clip = drawing('clipPath', { id: `bucket-${id}` }, [drawing('path', { d: shape })]);
  const figure = element('figure', { class: `bucket rule-${color % COLORS}` }, [
    drawing('svg', { viewBox: '0 0 34 42', 'aria-hidden': 'true' }, [
      clip,
      drawing('path', { class: 'glass', d: shape }),
      drawing('g', { 'clip-path': `url(#bucket-${id})` }, [water]),
    ]),
    element('figcaption', {}, [element('b', {}, [rule]), amount]),
  ]);
  const fill = (tokens: number, limit: number, unit: string) => {
    const share = Math.min(Math.max(tokens / limit, 0), 1);
    water.setAttribute('y', String(bottom - share * (bottom - top)));
    const counted = unit === 'requests' ? '' : ` ${unit}`;
    amount.textContent = `${format(tokens)} of ${format(limit)}${counted}`;
  };
  return { figure, fill };
}
