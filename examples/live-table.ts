// A live table: redrawn in place on a terminal, printed at intervals elsewhere.

export type Columns = readonly [head: string, width: number][];

/** Draws the lines, of which there are always as many, until the returned function is called. */
export function draw(output: NodeJS.WriteStream, lines: () => string[]): () => void {
  const height = lines().length;
  const print = () => output.write(`${lines().join('\n')}\n`);
  print();
  const redraw = () => {
    if (output.isTTY) output.write(`\x1b[${height}A\x1b[J`);
    print();
  };
  const timer = setInterval(redraw, output.isTTY ? 200 : 3000);
  return () => {
    clearInterval(timer);
    redraw();
    output.write('\n');
  };
}

/** The head of a table and its rows. The first cell of a row is a name, and the last may be a text. */
export function table(columns: Columns, rows: readonly (readonly string[])[]): string[] {
  return [columns.map(([head]) => head), ...rows].map((row) => {
    const padded = row.map((cell, at) => {
      const width = columns[at]?.[1] ?? 0;
      return at === 0 || at === row.length - 1 ? cell.padEnd(width) : cell.padStart(width);
    });
    return `  ${padded.join('  ')}`.trimEnd();
  });
}

export function count(number: number): string {
  return number.toLocaleString('en-US');
}
