// The client of a web-standard request. The request says nothing about its connection: the server passes the address.

import { keyWithin, readSubnets } from '../address/address-key.js';
import { addressResolver } from '../address/client-address.js';
import { warnOfProxy } from '../guard/misuse.js';
import { noAddressError, type ReadClient } from '../http/client.js';
import type { Exchange } from './exchange.js';
import type { ClientInfo } from './types.js';

export const fetchClient: ReadClient<Request, Exchange<ClientInfo>> = (given, warn) => {
  const { trustedProxies } = given;
  const resolve = addressResolver({ trustedProxies: trustedProxies as string | undefined });
  const subnets = readSubnets(given);
  const address = ({ headers }: Request, { info }: Exchange<ClientInfo>) => {
    const field = (name: string) => headers.get(name) ?? undefined;
    const named = { 'x-forwarded-for': field('x-forwarded-for'), forwarded: field('forwarded') };
    const asked = { headers: named, socket: { remoteAddress: info.address } };
    if (trustedProxies === undefined) warnOfProxy(asked, warn);
    return resolve(asked);
  };
  return {
    key(request, exchange) {
      const key = keyWithin(address(request, exchange), subnets);
      if (key === undefined) throw noAddressError('key, or pass the address');
      return key;
    },
    address,
    connection: () => undefined,
    isSamePerConnection: false,
  };
};
