// What express-rate-limit promises in its documentation and its tests, asked of the middleware.

import { addresses, fields } from './express-fields.js';
import { answers, refunds, requests } from './express-requests.js';
import { mistakes, states } from './express-state.js';
import { testBehaviours } from './table.js';

testBehaviours('express-rate-limit', 75, {
  'whom it limits': requests,
  'what it answers': answers,
  'what does not count': refunds,
  'what its fields say': fields,
  addresses,
  'its state': states,
  mistakes,
});
