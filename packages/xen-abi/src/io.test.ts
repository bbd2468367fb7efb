import { XenconsInterface } from './io-console.ts';
import { XenstoreDomainInterface } from './io-xenstore.ts';

test('xencons_interface has the offsets of the C compiler', () => {
  expect(XenconsInterface.size).toBe(3088);
  expect(XenconsInterface.offsets).toEqual({
    in: 0,
    out: 1024,
    in_cons: 3072,
    in_prod: 3076,
    out_cons: 3080,
    out_prod: 3084,
  });
});

test('xenstore_domain_interface has the offsets of the C compiler', () => {
  expect(XenstoreDomainInterface.size).toBe(2076);
  expect(XenstoreDomainInterface.offsets).toEqual({
    req: 0,
    rsp: 1024,
    req_cons: 2048,
    req_prod: 2052,
    rsp_cons: 2056,
    rsp_prod: 2060,
    server_features: 2064,
    connection: 2068,
    error: 2072,
  });
});
