/** Labels of a security policy, on a host that has none (Xen 4.4 `xsconstants.py`, `XendAPI.py`). */
import { securityError } from '../errors.ts';
import type { Operation, Writer } from '../table.ts';

/** "XSERR_POLICY_NOT_LOADED": what a host without a security policy says. */
const POLICY_NOT_LOADED = 0x1000 + 23;
export const noPolicy = () => securityError(-POLICY_NOT_LOADED, 'The policy is not loaded');

/** The operation of every class whose objects could have a label. */
export const setSecurityLabel = <T>(method: Writer<T>['method']): Operation<T> =>
  method({
    name: 'set_security_label',
    doc: 'Sets the label of a security policy: there is none, so none but the empty label.',
    params: [
      { name: 'label', kind: 'string' },
      { name: 'old', kind: 'string' },
    ],
    run(_, __, ___, label) {
      if (label !== '') throw noPolicy();
      return 0;
    },
  });
