// Handles of the TypeScript engine: there are none. A Map finds a key it has seen about as fast as
// anything could remember where it was, and needs nobody to tell it of removals.

import type { Handle } from '../engine.js';

export abstract class KeyedHandles {
  openPeer(_key: string): Handle {
    return undefined;
  }

  openGroup(): Handle {
    return undefined;
  }

  addMember(_group: Handle, _key: string): void {}

  removeMember(_group: Handle, _index: number): void {}
}
