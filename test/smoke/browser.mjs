// The main entry in a browser: bundled for one, run where nothing but the web's globals is.

import * as library from 'relay-limiter';

globalThis.library = library;
