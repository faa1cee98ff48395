// The system's browser for the tests of a file, and pages that are closed after their test.

import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { CHROMIUM, FLAGS } from './chromium.js';

/** The timeout of each step in milliseconds, long enough for a busy machine. */
export const PATIENCE = 240_000;

export interface PageOptions {
  readonly viewport?: { width: number; height: number };
  readonly colorScheme?: 'light' | 'dark';
  readonly reducedMotion?: 'reduce' | 'no-preference';
}

const DEFAULT_VIEWPORT = { width: 1280, height: 720 };

/**
 * Starts the browser before the tests of a suite, and ends it after them. A page has its processes, whose start takes longer
 * than most tests: tests use the same, emptied. `prepare` is called once for each.
 */
export function useBrowser(prepare: (page: Page) => Promise<unknown> = async () => {}) {
  let browser: Browser;
  const free: Page[] = [];
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: PATIENCE });
  });
  afterAll(() => browser?.close());

  async function create(): Promise<Page> {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    await prepare(page);
    return page;
  }

  async function release(page: Page): Promise<void> {
    page.removeAllListeners();
    await page.unrouteAll();
    await page.context().clearCookies();
    await page.goto('about:blank');
    free.push(page);
  }

  return {
    /** Returns an empty page for the test. */
    async newPage({ viewport, colorScheme, reducedMotion }: PageOptions = {}): Promise<Page> {
      const page = free.pop() ?? (await create());
      onTestFinished(() => release(page));
      await page.setViewportSize(viewport ?? DEFAULT_VIEWPORT);
      await page.emulateMedia({
        colorScheme: colorScheme ?? 'light',
        reducedMotion: reducedMotion ?? 'no-preference',
        forcedColors: 'none',
      });
      return page;
    },
    newContext: () => browser.newContext(),
  };
}
