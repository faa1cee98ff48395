// Prints the dist-tag under which npm publishes a release: `latest` or `next`, which npm users get by default, unless a
// higher version is released already. A patch of such an older version gets a tag of its own, for example `latest-1.2`.
//
//   node scripts/dist-tag.mjs v1.2.3 $(git tag --list 'v[0-9]*')

import { fail } from './tools.mjs';

const [released, ...others] = process.argv.slice(2).map(parse);
const isLower = others.some((other) => !other.isPreRelease && compare(released, other) < 0);
const name = released.isPreRelease ? 'next' : 'latest';
console.log(isLower ? `${name}-${released.numbers.slice(0, 2).join('.')}` : name);

function parse(tag) {
  const match = /^v(\d+)\.(\d+)\.(\d+)(-.+)?$/.exec(tag);
  if (match === null) fail(`dist-tag: a tag must be like v1.2.3 or v1.2.3-rc.1, got ${tag}`);
  return { numbers: match.slice(1, 4).map(Number), isPreRelease: match[4] !== undefined };
}

/** Negative if the version `one` is lower than `other`, apart from what makes them pre-releases. */
function compare(one, other) {
  const [difference = 0] = one.numbers
    .map((number, n) => number - other.numbers[n])
    .filter((difference) => difference !== 0);
  return difference;
}
