// Draws the charts with uPlot. Colours are read from the style sheet at each drawing, so that they follow the colour
// scheme.

import uPlot from 'uplot';
import type { Column, Series } from './series.js';
import { short } from './text.js';

type Draw = (series: Series, from: number, to: number) => void;
type Hover = (index: number | null) => void;
type Values = (number | null)[];
type Verdict = 'allow' | 'delay' | 'disconnect';

/** Half the width of a time label, in pixels. */
const HALF_LABEL = 28;

/** Creates a stacked chart of verdicts per second. `verdicts` is in order from the top of the stack to its bottom. */
export function stackedChart(place: HTMLElement, verdicts: readonly Verdict[], hover: Hover): Draw {
  const area = (verdict: string): uPlot.Series => ({
    stroke: () => color(`--${verdict}`),
    fill: () => color(`--${verdict}-area`),
    width: 1.5,
    points: { show: false },
  });
  const chart = create(place, {
    scales: scales(10),
    series: [{}, ...verdicts.map(area)],
    // Each area is filled down to the next one.
    bands: verdicts.slice(1).map((_, i) => ({ series: [i + 1, i + 2] as [number, number] })),
    axes: [timeAxis(), valueAxis()],
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { show: false },
      // Synchronizes the cursors of both charts of verdicts.
      sync: { key: 'verdicts', setSeries: false },
    },
    padding: [8, 4, 0, 0],
    hooks: { setCursor: [({ cursor }) => hover(cursor.idx ?? null)] },
  });
  return (series, from, to) => {
    const columns = verdicts.map((_, i) => stacked(series, verdicts.slice(i)));
    draw(chart, series.times, columns, from, to);
  };
}

/** Creates a line chart of one value, without axes: the page shows the current value beside it. */
export function lineChart(place: HTMLElement, column: Column, least: number): Draw {
  const chart = create(place, {
    scales: scales(least),
    series: [
      {},
      {
        stroke: () => color('--line'),
        fill: () => color('--line-area'),
        width: 1.5,
        points: { show: false },
      },
    ],
    axes: [{ show: false }, { show: false }],
    cursor: { show: false },
    padding: [2, 0, 0, 0],
  });
  return (series, from, to) => {
    draw(chart, series.times, [series.moments.map((moment) => moment[column])], from, to);
  };
}

const charts = new Set<uPlot>();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const chart of charts) chart.redraw(false, true);
});

type Options = Omit<uPlot.Options, 'width' | 'height' | 'legend'>;

function create(place: HTMLElement, options: Options): uPlot {
  const size = () => ({ width: place.clientWidth, height: place.clientHeight });
  const all = { ...options, ...size(), legend: { show: false } };
  const empty: Values[] = options.series.map(() => []);
  const chart = new uPlot(all, empty as uPlot.AlignedData, place);
  new ResizeObserver(() => chart.setSize(size())).observe(place);
  charts.add(chart);
  return chart;
}

function draw(chart: uPlot, times: number[], columns: Values[], from: number, to: number): void {
  chart.batch(() => {
    chart.setData([times, ...columns] as uPlot.AlignedData, false);
    chart.setScale('x', { min: from, max: to });
  });
}

/** Returns the sums of some verdicts; null at moments without any. */
function stacked({ moments }: Series, verdicts: readonly Column[]): Values {
  return moments.map((moment) => {
    if (verdicts.every((verdict) => moment[verdict] === null)) return null;
    return verdicts.reduce((sum, verdict) => sum + (moment[verdict] ?? 0), 0);
  });
}

function scales(least: number): uPlot.Scales {
  return {
    x: { time: true, auto: false },
    y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.08)] },
  };
}

function timeAxis(): uPlot.Axis {
  const time = (seconds: number, step: number) =>
    new Date(seconds * 1000).toLocaleTimeString('en-GB', {
      hour: '2-digit',
      minute: '2-digit',
      ...(step < 60 && { second: '2-digit' }),
    });
  return {
    ...lines(),
    incrs: [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400],
    values: (chart, splits, _, __, step) => {
      const last = chart.over.clientWidth - HALF_LABEL;
      // Omits a label that the edge would cut off.
      return splits.map((split) => (chart.valToPos(split, 'x') > last ? '' : time(split, step)));
    },
    // On a phone too, two times stand below a chart, so that its scale can be read.
    space: 80,
    size: 22,
  };
}

function valueAxis(): uPlot.Axis {
  return { ...lines(), values: (_, splits) => splits.map(short), space: 30, size: 48 };
}

function lines(): uPlot.Axis {
  return {
    stroke: () => color('--muted'),
    font: '12px system-ui, sans-serif',
    grid: { stroke: () => color('--grid'), width: 1 },
    ticks: { show: false },
    gap: 6,
  };
}

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
