/** The files of the page by name. scripts/build.mjs generates them from the folder `page` and uPlot. */
export declare const PAGE_FILES: Readonly<Record<string, string>>;
