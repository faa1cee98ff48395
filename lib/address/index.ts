// The entry point relay-limiter/address: keys of addresses and connections. It only re-exports.

export { type AddressKeyOptions, addressKey } from './address-key.js';
export {
  addressResolver,
  type ClientAddressOptions,
  type ClientRequest,
  clientAddress,
  type Trust,
} from './client-address.js';
export { connectionKey } from './connection-key.js';
