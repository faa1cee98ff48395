// The picture of a run as SVG: how long deliveries between honest peers took, second by second, without limits and with
// the guard. Readable in light and dark mode.

import { milliseconds } from './units.js';

/** A delivery time per second of a phase, in milliseconds; NaN for a second without deliveries. */
export type DeliveryTimes = readonly number[];

const WIDTH = 760;
const HEIGHT = 320;
const TOP = 84;
const BOTTOM = HEIGHT - 46;
const LEFT = 66;
const GAP = 36;
const PANEL = (WIDTH - LEFT - GAP - 24) / 2;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #57606a; }
  .title { font-size: 17px; font-weight: 600; fill: #1f2328; }
  .name { font-size: 14px; font-weight: 600; fill: currentColor; }
  .off { color: #b34d00; }
  .on { color: #0072b2; }
  .grid { stroke: #d0d7de; }
  .back { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title { fill: #f0f6fc; }
    .off { color: #ff9a4d; }
    .on { color: #56b4e9; }
    .grid { stroke: #30363d; }
    .back { fill: #0d1117; }
  }`;

export function picture(title: string, off: DeliveryTimes, on: DeliveryTimes): string {
  const times = [...off, ...on].filter((time) => time > 0);
  const lowest = Math.floor(Math.log10(Math.min(1, ...times)));
  const highest = Math.ceil(Math.log10(Math.max(10, ...times)));
  const up = (time: number) =>
    BOTTOM - ((Math.log10(time) - lowest) / (highest - lowest)) * (BOTTOM - TOP);
  const powers = Array.from({ length: highest - lowest + 1 }, (_, n) => 10 ** (lowest + n));
  const right = LEFT + PANEL + GAP;
  const parts = [
    `<rect class="back" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${LEFT}" y="28">${title}</text>`,
    `<text x="${LEFT}" y="48">Time in which half of the messages between honest peers arrived</text>`,
    ...powers.map((power) => tick(up(power), milliseconds(power))),
    ...panel('without limits', 'off', LEFT, off, up),
    ...panel('with the guard', 'on', right, on, up),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">
<title>${title}</title>
<style>${STYLE}
</style>
${parts.join('\n')}
</svg>
`;
}

function panel(
  name: string,
  phase: 'off' | 'on',
  left: number,
  times: DeliveryTimes,
  up: (time: number) => number,
): string[] {
  const columns = times.map((time, index) => ({
    x: round(left + (PANEL / times.length) * (index + 0.5)),
    time,
    second: index + 1,
  }));
  // A line ends at a second in which nothing arrived.
  const lines: { x: number; y: number }[][] = [[]];
  for (const { x, time } of columns) {
    if (time > 0) lines.at(-1)?.push({ x, y: round(up(time)) });
    else lines.push([]);
  }
  const drawn = lines.filter((points) => points.length > 0);
  const silent = columns.filter(({ time }) => !(time > 0));
  const middle = 'text-anchor="middle"';
  return [
    `<g class="${phase}">`,
    `<text class="name" x="${left}" y="${TOP - 14}">${name}</text>`,
    ...drawn.map((points) => {
      const along = points.map(({ x, y }) => `${x},${y}`).join(' ');
      return `<polyline points="${along}" fill="none" stroke="currentColor" stroke-width="3" stroke-linejoin="round"/>`;
    }),
    ...drawn.flat().map(({ x, y }) => `<circle cx="${x}" cy="${y}" r="4" fill="currentColor"/>`),
    ...silent.map(({ x }) => `<text class="name" x="${x}" y="${TOP + 18}" ${middle}>×</text>`),
    '</g>',
    ...(silent.length === 0
      ? []
      : [`<text x="${left + PANEL}" y="${TOP - 14}" text-anchor="end">× nothing arrived</text>`]),
    ...columns.map(
      ({ x, second }) => `<text x="${x}" y="${BOTTOM + 20}" ${middle}>${second}</text>`,
    ),
    `<text x="${round(left + PANEL / 2)}" y="${HEIGHT - 8}" ${middle}>seconds of the attack</text>`,
  ];
}

function tick(y: number, text: string): string {
  const line = (left: number) =>
    `<line class="grid" x1="${left}" x2="${round(left + PANEL)}" y1="${round(y)}" y2="${round(y)}"/>`;
  return `${line(LEFT)}${line(round(LEFT + PANEL + GAP))}
<text x="${LEFT - 8}" y="${round(y + 4)}" text-anchor="end">${text}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
