// Loads the modules of the project's tests anew for each test file, although files share a process: a file may replace
// what a module imports. Modules that Node loads, such as the package as built, are loaded once.

import { vi } from 'vitest';

vi.resetModules();
