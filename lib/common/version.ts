/** The version of this package, equal to the one in package.json. A binary of another version is not loaded. */
export const VERSION = '0.1.0';
