// The system's browser, which no test goes anywhere with.

import { existsSync } from 'node:fs';

/** Where Debian and Ubuntu have it. */
export const CHROMIUM = '/usr/bin/chromium';

export const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Whether it is there; if not, says which tests are skipped, and how to have it. */
export function hasChromium(tests: string): boolean {
  const isThere = existsSync(CHROMIUM);
  if (!isThere) {
    console.warn(`skipped: ${tests}; they need ${CHROMIUM} (apt-get install chromium)`);
  }
  return isThere;
}
