/** The page's files by their names: written by scripts/build.mjs, out of the folder `page` and uPlot. */
export declare const PAGE_FILES: Readonly<Record<string, string>>;
