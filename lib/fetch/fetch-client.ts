// The client of a web-standard request. The request says nothing about its connection: the server passes the address.

import { keyWithin, readSubnets } from '../address/address-key.js';
import { addressResolver } from '../address/client-address.js';
import { type ClientInfo, clientRequestOf } from '../address/web-request.js';
import { warnOfProxy } from '../guard/misuse.js';
import { noAddressError, type ReadClient } from '../http/client.js';
import type { Exchange } from './exchange.js';

export const fetchClient: ReadClient<Request, Exchange<object>> = (given, warn) => {
  const { trustedProxies } = given;
  const resolve = addressResolver({ trustedProxies: trustedProxies as string | undefined });
  const subnets = readSubnets(given);
  const address = (request: Request, { info }: Exchange<object>) => {
    const asked = clientRequestOf(request, info as ClientInfo);
    if (trustedProxies === undefined) warnOfProxy(asked, warn);
    return resolve(asked);
  };
  return {
    key(request, exchange) {
      const key = keyWithin(address(request, exchange), subnets);
      if (key === undefined) throw noAddressError('trustedProxies or key, or pass the address');
      return key;
    },
    address,
    connection: () => undefined,
    isSamePerConnection: false,
  };
};
