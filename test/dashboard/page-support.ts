// What tests read from the page in a browser.

import type { Page } from 'playwright-core';

/** The label of the element that has the focus. */
export function label(page: Page): Promise<string | null | undefined> {
  return page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
}

/** Whether an element is completely inside the window and not covered. */
export function isInView(page: Page, selector: string): Promise<boolean> {
  return page.evaluate((selector) => {
    const element = document.querySelector(selector) as HTMLElement;
    const { top, bottom, left, width } = element.getBoundingClientRect();
    const atMiddle = document.elementFromPoint(left + width / 2, (top + bottom) / 2);
    return top >= 0 && bottom <= innerHeight && element === atMiddle;
  }, selector);
}

/** Whether the upper `part` of a canvas has a pixel of about this colour. */
export function painted(page: Page, selector: string, color: number[], part = 1): Promise<boolean> {
  return page.evaluate(
    ([selector, color, part]) => {
      const canvas = document.querySelector(selector as string) as HTMLCanvasElement;
      const context = canvas.getContext('2d') as CanvasRenderingContext2D;
      const height = Math.floor(canvas.height * (part as number));
      const { data } = context.getImageData(0, 0, canvas.width, height);
      for (let i = 0; i < data.length; i += 4) {
        const near = (color as number[]).every(
          (value, k) => Math.abs(Number(data[i + k]) - value) < 16,
        );
        if (near && Number(data[i + 3]) > 200) return true;
      }
      return false;
    },
    [selector, color, part] as const,
  );
}
