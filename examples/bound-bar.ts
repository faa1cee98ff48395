// A bar of what was admitted against what a limit allows.

const WIDTH = 50;

/** Returns the bar as one line of at most 100 characters: `│` marks the bound, `█` beyond it exceeds it. */
export function boundBar(admitted: number, bound: number): string {
  const scale = Math.max(admitted, bound);
  const cells = (value: number) => Math.round((value / scale) * WIDTH);
  const [filled, mark] = [cells(admitted), cells(bound)];
  const bar = '█'.repeat(filled) + '░'.repeat(WIDTH - filled);
  const count = (value: number) => Math.floor(value).toLocaleString('en-US');
  const share = Math.floor((admitted / bound) * 100);
  return `${bar.slice(0, mark)}│${bar.slice(mark)} ${count(admitted)} of at most ${count(bound)}: ${share}%`;
}
