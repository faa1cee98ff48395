/** This package's version: package.json says the same, and a binary built for another is refused. */
export const VERSION = '0.1.0';
