// An ordered set of items with a cost each, which sums the costs before any item in O(log n). It is a treap: a search tree
// by the items' order, and a heap by pseudorandom weights, which keep it balanced whatever the order of insertion.

import { type Cost, plus } from './cost.js';

export interface TreeItem {
  /** The cost of the item alone. It must not change while the item is in the tree. */
  readonly cost: Cost;
}

interface Node<T extends TreeItem> {
  readonly item: T;
  readonly weight: number;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
  /** The cost of the item and of all items below it. */
  total: Cost;
}

export class OrderedTree<T extends TreeItem> {
  readonly #isBefore: (a: T, b: T) => boolean;
  #root: Node<T> | undefined;
  #first: T | undefined;
  #size = 0;
  #added = 0;

  /** @param isBefore a strict order in which no two items of the tree are equal */
  constructor(isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#size;
  }

  get first(): T | undefined {
    return this.#first;
  }

  /** The cost of all items. */
  get total(): Cost {
    return this.#root?.total ?? 0;
  }

  /** Returns the first `count` items in their order. O(count + log n). */
  firstItems(count: number): T[] {
    const items: T[] = [];
    const visit = (node: Node<T> | undefined): void => {
      if (node === undefined || items.length >= count) return;
      visit(node.left);
      if (items.length < count) items.push(node.item);
      visit(node.right);
    };
    visit(this.#root);
    return items;
  }

  add(item: T): void {
    const node = { item, weight: weightOf(this.#added), left: undefined, right: undefined };
    this.#added += 1;
    this.#root = this.#insert(this.#root, { ...node, total: item.cost });
    this.#size += 1;
    if (this.#first === undefined || this.#isBefore(item, this.#first)) this.#first = item;
  }

  /** Deletes an item, which must be in the tree. */
  delete(item: T): void {
    this.#root = this.#remove(this.#root as Node<T>, item);
    this.#size -= 1;
    if (item === this.#first) this.#first = leftmost(this.#root);
  }

  /** Returns the cost of all items before `item`, which need not be in the tree. */
  costBefore(item: T): Cost {
    let cost: Cost = 0;
    let node = this.#root;
    while (node !== undefined) {
      if (this.#isBefore(node.item, item)) {
        cost = plus(cost, plus(node.item.cost, node.left?.total ?? 0));
        node = node.right;
      } else {
        node = node.left;
      }
    }
    return cost;
  }

  #insert(root: Node<T> | undefined, node: Node<T>): Node<T> {
    if (root === undefined) return node;
    if (node.weight > root.weight) {
      [node.left, node.right] = this.#split(root, node.item);
      return sum(node);
    }
    if (this.#isBefore(node.item, root.item)) root.left = this.#insert(root.left, node);
    else root.right = this.#insert(root.right, node);
    return sum(root);
  }

  /** Returns the items before `item` and those after it as two trees. */
  #split(root: Node<T> | undefined, item: T): [Node<T> | undefined, Node<T> | undefined] {
    if (root === undefined) return [undefined, undefined];
    if (this.#isBefore(root.item, item)) {
      const [before, after] = this.#split(root.right, item);
      root.right = before;
      return [sum(root), after];
    }
    const [before, after] = this.#split(root.left, item);
    root.left = after;
    return [before, sum(root)];
  }

  #remove(root: Node<T>, item: T): Node<T> | undefined {
    if (root.item === item) return merge(root.left, root.right);
    if (this.#isBefore(item, root.item)) root.left = this.#remove(root.left as Node<T>, item);
    else root.right = this.#remove(root.right as Node<T>, item);
    return sum(root);
  }
}

/** Joins two trees; all items of `a` are before those of `b`. */
function merge<T extends TreeItem>(
  a: Node<T> | undefined,
  b: Node<T> | undefined,
): Node<T> | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  if (a.weight > b.weight) {
    a.right = merge(a.right, b);
    return sum(a);
  }
  b.left = merge(a, b.left);
  return sum(b);
}

function sum<T extends TreeItem>(node: Node<T>): Node<T> {
  node.total = plus(node.item.cost, plus(node.left?.total ?? 0, node.right?.total ?? 0));
  return node;
}

function leftmost<T extends TreeItem>(root: Node<T> | undefined): T | undefined {
  let node = root;
  while (node?.left !== undefined) node = node.left;
  return node?.item;
}

/** Returns a well mixed 32-bit number for each counter value (the finalizer of MurmurHash3). */
function weightOf(counter: number): number {
  let bits = counter | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
