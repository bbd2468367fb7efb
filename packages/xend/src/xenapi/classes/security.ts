/** XSPolicy, ACMPolicy: security policies. This host's security module is the dummy: it has none and takes none (Xen 4.4 `xsm/dummy`). */
import { handleInvalid, internalError, securityError } from '../errors.ts';
import { emptyClass, writer } from '../table.ts';
import { noPolicy } from './labels.ts';
import { findVm } from './vm.ts';

const { func, method } = writer<never>();

/** XSERR_POLICY_TYPE_UNSUPPORTED (Xen 4.4 `xsconstants.py`). */
const TYPE_UNSUPPORTED = 0x1000 + 15;
const unsupportedType = () => securityError(-TYPE_UNSUPPORTED, 'The policy type is unsupported');
const refused = () => internalError("Command not supported under XSM 'dummy' module.");

const NO_POLICY = { xs_ref: '', repr: '', type: 0, flags: 0, version: '', errors: '', xserr: 0 };
const LABEL = { name: 'label', kind: 'string' } as const;
const RESOURCE = { name: 'resource', kind: 'string' } as const;

export const xsPolicy = emptyClass({
  name: 'XSPolicy',
  doc: 'A security policy.',
  fields: [],
  operations: [
    method({ name: 'activate_xspolicy', doc: 'Puts a policy into force.', params: [{ name: 'flags', kind: 'int' }], run: () => undefined }), // prettier-ignore
    func({ name: 'get_xstype', doc: 'Which types of policy the host knows: none.', reads: true, returns: 'int', run: () => 0 }), // prettier-ignore
    func({ name: 'get_xspolicy', doc: 'The policy in force: none.', reads: true, returns: 'struct', run: () => NO_POLICY }), // prettier-ignore
    func({
      name: 'set_xspolicy',
      doc: 'Sets a policy.',
      returns: 'struct',
      params: [
        { name: 'type', kind: 'int' },
        { name: 'policy', kind: 'string' },
        { name: 'flags', kind: 'int' },
        { name: 'overwrite', kind: 'bool' },
      ],
      run() {
        throw unsupportedType();
      },
    }),
    func({
      name: 'reset_xspolicy',
      doc: 'Sets the policy back to its default.',
      returns: 'struct',
      params: [{ name: 'type', kind: 'int' }],
      run() {
        throw unsupportedType();
      },
    }),
    func({
      name: 'rm_xsbootpolicy',
      doc: 'Takes the policy out of the boot loader.',
      run() {
        throw refused();
      },
    }),
    func({ name: 'get_labeled_resources', doc: 'Resources and their labels: none.', reads: true, returns: 'map', run: () => ({}) }), // prettier-ignore
    func({ name: 'get_resource_label', doc: 'The label of a resource: none.', reads: true, returns: 'string', params: [RESOURCE], run: () => '' }), // prettier-ignore
    func({
      name: 'set_resource_label',
      doc: 'Labels a resource.',
      params: [RESOURCE, LABEL, { name: 'old', kind: 'string' }],
      run() {
        throw refused();
      },
    }),
    func({
      name: 'can_run',
      doc: 'Whether a machine with a label could run.',
      reads: true,
      returns: 'int',
      params: [LABEL],
      run(_, __, label) {
        if (label !== '') throw noPolicy();
        return 0;
      },
    }),
    func({
      name: 'getenforce',
      doc: 'Whether the policy is enforced.',
      reads: true,
      returns: 'int',
      run() {
        throw refused();
      },
    }),
    func({
      name: 'setenforce',
      doc: 'Sets whether the policy is enforced.',
      params: [{ name: 'mode', kind: 'any' }],
      run() {
        throw refused();
      },
    }),
  ],
});

export const acmPolicy = emptyClass({
  name: 'ACMPolicy',
  doc: 'A security policy of type ACM.',
  fields: [
    ['xml', 'string'],
    ['map', 'string'],
    ['binary', 'string'],
    ['header', 'map'],
  ],
  operations: [
    method({ name: 'activate_xspolicy', doc: 'Puts a policy into force.', params: [{ name: 'flags', kind: 'int' }], run: () => undefined }), // prettier-ignore
    func({ name: 'get_enforced_binary', doc: 'The policy in force: none.', reads: true, returns: 'string', run: () => '' }), // prettier-ignore
    func({
      name: 'get_VM_ssidref',
      doc: 'The label’s number of a machine.',
      reads: true,
      returns: 'int',
      params: [{ name: 'vm', kind: 'ref' }],
      run(world, _, ref) {
        if (!findVm(world, ref)) throw handleInvalid('VM', ref);
        throw noPolicy();
      },
    }),
  ],
});
