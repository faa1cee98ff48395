// Plots as SVG: lines on logarithmic axes, readable in light and dark mode.

import { scaleLog } from 'd3-scale';

export interface Line {
  name: string;
  /** [x, y], all greater than 0. */
  points: [number, number][];
}

export interface Plot {
  title: string;
  x: string;
  y: string;
  lines: Line[];
}

const WIDTH = 720;
const HEIGHT = 400;
const MARGIN = { top: 48, right: 160, bottom: 52, left: 64 };
const BOTTOM = HEIGHT - MARGIN.bottom;
const RIGHT = WIDTH - MARGIN.right;
// Minimum distance between two labels, in pixels: closer labels would overlap.
const LABEL = 15;
// Lines with more points than this are drawn without dots.
const MAX_DOTS = 6;

interface LineStyle {
  color: string;
  dash?: string;
  width?: number;
}

// Distinguishable for colour-blind people too: the colours of Okabe and Ito, and different dashes.
const LINE_STYLES: Record<string, LineStyle> = {
  native: { color: '#0072b2', width: 3 },
  'native, opened': { color: '#0072b2', dash: '8 3' },
  'native, in a group': { color: '#0072b2', dash: '2 3' },
  TypeScript: { color: '#009e73' },
  'plain Map': { color: '#d55e00' },
  limiter: { color: '#cc79a7', dash: '6 3' },
  'rate-limiter-flexible': { color: '#e69f00', dash: '6 3' },
  '@hyperlimit/core': { color: '#56b4e9', dash: '6 3' },
};
const UNKNOWN: LineStyle = { color: '#888888', dash: '2 3' };

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 16px; font-weight: 600; }
  .grid { stroke: #d0d7de; }
  .back { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .grid { stroke: #30363d; }
    .back { fill: #0d1117; }
  }`;

export function svg({ title, x, y, lines }: Plot): string {
  const drawn = lines.filter(({ points }) => points.length > 0);
  const xs = drawn.flatMap(({ points }) => points.map(([value]) => value));
  const ys = drawn.flatMap(({ points }) => points.map(([, value]) => value));
  const across = scaleLog([Math.min(...xs), Math.max(...xs)], [MARGIN.left, RIGHT]);
  const up = scaleLog([Math.min(...ys) / 1.3, Math.max(...ys) * 1.3], [BOTTOM, MARGIN.top]);
  const path = ({ name, points }: Line) => {
    const { color, dash = 'none', width = 2 } = LINE_STYLES[name] ?? UNKNOWN;
    const along = points.map(([px, py]) => `${round(across(px))},${round(up(py))}`).join(' ');
    const stroke = `stroke="${color}" stroke-width="${width}" stroke-dasharray="${dash}"`;
    const line = `<polyline points="${along}" fill="none" stroke-linejoin="round" ${stroke}/>`;
    const dots =
      points.length > MAX_DOTS ? [] : points.map(([px, py]) => dot(across(px), up(py), color));
    return [line, ...dots].join('\n');
  };
  const parts = [
    `<rect class="back" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${MARGIN.left}" y="26">${escaped(title)}</text>`,
    ...ticks(across).map((value) => column(across(value), short(value))),
    ...ticks(up).map((value) => row(up(value), short(value))),
    `<text x="${(MARGIN.left + RIGHT) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escaped(x)}</text>`,
    `<text x="${MARGIN.left}" y="${MARGIN.top - 6}" text-anchor="end">${escaped(y)}</text>`,
    ...drawn.map(path),
    ...labels(drawn, up),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">
<title>${escaped(title)}</title>
<style>${STYLE}
</style>
${parts.join('\n')}
</svg>
`;
}

type Scale = ReturnType<typeof scaleLog<number>>;

/** Returns the ticks of an axis: powers of ten, and also their multiples by two and five if there are few. */
function ticks(scale: Scale): number[] {
  const all = scale.ticks();
  const wanted = (digits: number[]) =>
    all.filter((value) =>
      digits.includes(Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9))),
    );
  const powers = wanted([1]);
  return powers.length > 2 ? powers : wanted([1, 2, 5]);
}

function column(x: number, text: string): string {
  return `<line class="grid" x1="${round(x)}" x2="${round(x)}" y1="${MARGIN.top}" y2="${BOTTOM}"/>
<text x="${round(x)}" y="${BOTTOM + 20}" text-anchor="middle">${text}</text>`;
}

function dot(x: number, y: number, color: string): string {
  return `<circle cx="${round(x)}" cy="${round(y)}" r="3.5" fill="${color}"/>`;
}

function row(y: number, text: string): string {
  return `<line class="grid" x1="${MARGIN.left}" x2="${RIGHT}" y1="${round(y)}" y2="${round(y)}"/>
<text x="${MARGIN.left - 8}" y="${round(y + 4)}" text-anchor="end">${text}</text>`;
}

/** Draws the name of each line at its end, and moves names apart that would overlap. */
function labels(lines: Line[], up: Scale): string[] {
  const ends = lines
    .map(({ name, points }) => ({ name, y: up((points.at(-1) as [number, number])[1]) }))
    .sort((a, b) => a.y - b.y);
  let lowest = Number.NEGATIVE_INFINITY;
  return ends.map(({ name, y }) => {
    lowest = Math.max(y, lowest + LABEL);
    const { color } = LINE_STYLES[name] ?? UNKNOWN;
    const place = `x="${RIGHT + 8}" y="${round(lowest + 4)}"`;
    return `<text ${place} style="fill: ${color}; font-weight: 600">${escaped(name)}</text>`;
  });
}

function short(value: number): string {
  if (value >= 1e6) return `${value / 1e6}M`;
  if (value >= 1e3) return `${value / 1e3}k`;
  return String(Number(value.toPrecision(1)));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
