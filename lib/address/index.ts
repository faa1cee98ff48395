// The entry relay-limiter/address: names only.

export { type AddressKeyOptions, addressKey } from './address-key.js';
export {
  addressResolver,
  type ClientAddressOptions,
  type ClientRequest,
  clientAddress,
  type Trust,
} from './client-address.js';
export { connectionKey } from './connection-key.js';
