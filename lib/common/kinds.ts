// Type checks that never throw. Ordinary checks throw a TypeError for a revoked proxy, and its message does not name
// the invalid argument.

type Fields = Readonly<Record<string, unknown>>;

/** Whether the value is a revoked proxy, of an object or of a function. */
export function isRevoked(value: unknown): boolean {
  try {
    Array.isArray(value);
    return false;
  } catch {
    return true;
  }
}

/** `Array.isArray`; false for a revoked proxy. */
export function isArray(value: unknown): value is unknown[] {
  return !isRevoked(value) && Array.isArray(value);
}

/** `instanceof`; false for a revoked proxy. */
export function isInstance<Instance>(
  value: unknown,
  Class: abstract new (...args: never[]) => Instance,
): value is Instance {
  return !isRevoked(value) && value instanceof Class;
}

/** Whether the value is an object with fields of its own, and not an array, Map, Date, Promise or the like. */
export function isRecord(value: unknown): value is Fields {
  if (typeof value !== 'object' || value === null || isRevoked(value)) return false;
  return !Array.isArray(value) && (isPlain(value) || kindOf(value) === 'Object');
}

/** Whether the object is one like `{}`, of any realm, or has no prototype. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Whether the value has methods with all these names. */
export function hasMethods(value: unknown, ...names: readonly (string | symbol)[]): boolean {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
  if (!isObject || isRevoked(value)) return false;
  return names.every((name) => typeof (value as Record<PropertyKey, unknown>)[name] === 'function');
}

/** The class of a built-in object, such as `Map` or `Date`; `Object` for most others, and if reading it throws. */
export function kindOf(value: object): string {
  try {
    return Object.prototype.toString.call(value).slice('[object '.length, -1);
  } catch {
    return 'Object';
  }
}
