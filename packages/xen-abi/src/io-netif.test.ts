import {
  NetifCtrlRequest,
  NetifCtrlResponse,
  NetifExtraGso,
  NetifExtraInfo,
  NetifRxRequest,
  NetifRxResponse,
  NetifTxRequest,
  NetifTxResponse,
} from './io-netif.ts';

test.each([
  [NetifTxRequest, 12, { gref: 0, offset: 4, flags: 6, id: 8, size: 10 }],
  [NetifTxResponse, 4, { id: 0, status: 2 }],
  [NetifRxRequest, 8, { id: 0, pad: 2, gref: 4 }],
  [NetifRxResponse, 8, { id: 0, offset: 2, flags: 4, status: 6 }],
  [NetifExtraInfo, 8, { type: 0, flags: 1, u: 2 }],
  [NetifExtraGso, 8, { type: 0, flags: 1, size: 2, gso_type: 4, pad: 5, features: 6 }],
  [NetifCtrlRequest, 16, { id: 0, type: 2, data: 4 }],
  [NetifCtrlResponse, 12, { id: 0, type: 2, status: 4, data: 8 }],
])('%p has the offsets of the C compiler', (layout, size, offsets) => {
  expect({ size: layout.size, offsets: layout.offsets }).toEqual({ size, offsets });
});
