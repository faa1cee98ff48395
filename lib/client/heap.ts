// A binary heap. Each item stores its own index, so that any item can be deleted in O(log n).

export interface HeapItem {
  /** The item's index in the heap. Only the heap writes it. */
  heapIndex: number;
}

export class Heap<T extends HeapItem> {
  readonly #items: T[] = [];
  readonly #isBefore: (a: T, b: T) => boolean;

  constructor(isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  /** Iterates over all items, in no particular order. */
  [Symbol.iterator](): Iterator<T> {
    return this.#items[Symbol.iterator]();
  }

  add(item: T): void {
    this.#siftUp(item, this.#items.length);
  }

  /** Deletes an item, which must be in the heap. */
  delete(item: T): void {
    const last = this.#items.pop() as T;
    if (last === item) return;
    const index = item.heapIndex;
    this.#siftDown(last, index);
    if (last.heapIndex === index) this.#siftUp(last, index);
  }

  #siftUp(item: T, from: number): void {
    let index = from;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#items[parentIndex] as T;
      if (!this.#isBefore(item, parent)) break;
      this.#put(parent, index);
      index = parentIndex;
    }
    this.#put(item, index);
  }

  #siftDown(item: T, from: number): void {
    let index = from;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= this.#items.length) break;
      const right = this.#items[childIndex + 1];
      if (right !== undefined && this.#isBefore(right, this.#items[childIndex] as T)) {
        childIndex += 1;
      }
      const child = this.#items[childIndex] as T;
      if (!this.#isBefore(child, item)) break;
      this.#put(child, index);
      index = childIndex;
    }
    this.#put(item, index);
  }

  #put(item: T, index: number): void {
    this.#items[index] = item;
    item.heapIndex = index;
  }
}
