/** xend.security.*: the security module of a hypervisor without XSM (facts, section 3; Xen 4.4 `util/xsm/dummy/dummy.py`). */
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { PlainFault } from '../errors.ts';
import { method, type Method, type Param, type WireType } from './method.ts';

const UNSUPPORTED = `"Command not supported under xsm 'dummy' module."`;
const any = (name: string): Param => ({ name, type: 'any' });

const answers = (name: string, doc: string, params: readonly Param[], returns: WireType, value: XmlRpcValue): Method =>
  method({ name: `xend.security.${name}`, doc, params, returns, run: () => Promise.resolve(value) });

const refuses = (name: string, doc: string, params: readonly Param[], text = UNSUPPORTED): Method =>
  method({
    name: `xend.security.${name}`,
    doc: `${doc} Refused: the hypervisor has no security module.`,
    params,
    returns: 'nil',
    run: () => Promise.reject(new PlainFault(text)),
  });

export const securityMethods: readonly Method[] = [
  refuses(
    'set_resource_label',
    'Labels a resource.',
    [
      any('resource'),
      any('policytype'),
      any('policyref'),
      any('reslabel'),
      { name: 'oldlabel', type: 'any', default: null },
    ],
    UNSUPPORTED.replace('xsm', 'XSM'),
  ),
  answers('get_resource_label', "A resource's label: none.", [any('resource')], 'string', ''),
  answers('list_labels', 'The labels of a policy: none.', [any('policy'), any('type')], 'array', []),
  answers('get_labeled_resources', 'Resources with labels: none.', [], 'struct', {}),
  refuses('set_policy', 'Installs a policy.', [any('xstype'), any('xml'), any('flags'), any('overwrite')]),
  refuses('reset_policy', 'Goes back to the default policy.', []),
  answers('get_policy', 'The policy and its flags: none.', [], 'array', ['', 0]),
  refuses('activate_policy', 'Activates a policy.', []),
  refuses('rm_bootpolicy', 'Removes the policy from the boot loader.', []),
  answers('get_xstype', 'The kinds of policies that work: none.', [], 'int', 0),
  answers('get_domain_label', "A domain's label: none.", [any('domain')], 'string', ''),
  refuses('set_domain_label', 'Labels a domain.', []),
];
