// The system's browser for the tests of a file, and pages that are closed after their test.

import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { CHROMIUM, FLAGS } from './chromium.js';

/** The timeout of each step in milliseconds, long enough for a busy machine. */
export const PATIENCE = 240_000;

export type PageOptions = NonNullable<Parameters<Browser['newPage']>[0]>;

/** Starts the browser before the tests of a suite, and ends it after them. */
export function useBrowser() {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: PATIENCE });
  });
  afterAll(() => browser?.close());
  return {
    /** Opens an empty page. It is closed after the test. */
    async newPage(options?: PageOptions): Promise<Page> {
      const page = await browser.newPage(options);
      page.setDefaultTimeout(PATIENCE);
      onTestFinished(() => page.close());
      return page;
    },
    newContext: () => browser.newContext(),
  };
}
