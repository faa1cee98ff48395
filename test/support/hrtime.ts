// Lets a test fake `process.hrtime` although the package has looked it up already, as it does when it is loaded.

const INSTALLED = Symbol.for('relay-limiter.hrtime');

// Test files share a process.
if (!(INSTALLED in process.hrtime)) {
  const { hrtime } = process;
  const current = Object.assign(
    (time?: [number, number]) => (process.hrtime === current ? hrtime : process.hrtime)(time),
    { bigint: hrtime.bigint, [INSTALLED]: true },
  ) as NodeJS.HRTime;
  process.hrtime = current;
}
