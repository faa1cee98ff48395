// How the page looks in a real browser: at each width, and in forced colours.

import { describe, expect, test } from 'vitest';
import { useBrowser } from '../support/browser.js';
import { hasChromium } from '../support/chromium.js';
import { limiters, served } from './support.js';

describe.skipIf(!hasChromium('the tests of the layout of the dashboard'))('The page', () => {
  const browser = useBrowser();

  async function open(width: number) {
    const { url } = await served({ limiters: limiters(), intervalSeconds: 0.2 });
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    await page.goto(url);
    await page.waitForSelector('#refused-chart canvas');
    return page;
  }

  test.each([390, 768, 1440, 2560])(
    'fits into %d pixels, with charts side by side',
    async (width) => {
      const page = await open(width);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
      const boxes = await Promise.all(
        ['#allow-chart', '#refused-chart'].map((chart) => page.locator(chart).boundingBox()),
      );
      const [allow, refused] = boxes.map((box) => box ?? { x: NaN, y: NaN, height: NaN });
      if (width < 700) expect(refused?.x).toBe(allow?.x);
      else expect(refused).toMatchObject({ y: allow?.y, height: allow?.height });
    },
  );

  test('has the colours of its charts in their legends, in forced colours too', async () => {
    const page = await open(1440);
    const colors = () =>
      page.evaluate(() =>
        ['.dot', '.allow', '.delay', '.disconnect'].map((selector) => {
          const element = document.querySelector(selector) as HTMLElement;
          return getComputedStyle(element, selector === '.dot' ? null : '::before').backgroundColor;
        }),
      );
    const own = await colors();
    await page.emulateMedia({ forcedColors: 'active' });
    expect(await page.evaluate(() => matchMedia('(forced-colors: active)').matches)).toBe(true);
    expect(await colors()).toEqual(own);
    expect(new Set(own).size).toBe(4);
  });
});
