/**
 * domctl (36): what Domain-0's tools do to one domain. One row per command. `xen/include/public/domctl.h`,
 * `xen/common/domctl.c`, `xen/arch/x86/domctl.c`. Runs on the control plane.
 */
import { Errno } from '@xenhost/base';
import { Domctl, DOMCTL_U, XEN_DOMCTL_INTERFACE_VERSION, XenDomctl } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { DomainRef } from '../state/refs.ts';
import { DOMAIN_COMMANDS } from './domctl-domain.ts';
import type { ControlModules } from './modules.ts';
import { POLICY_COMMANDS } from './domctl-policy.ts';
import { ControlRequest } from './request.ts';
import { VCPU_COMMANDS } from './domctl-vcpu.ts';

/** `copyBack`: success, and the structure goes back to the caller. */
export type DomctlResult = number | 'continue' | 'copyBack';

export interface DomctlContext {
  readonly m: ControlModules;
  readonly call: HypercallCall;
  readonly request: ControlRequest;
  readonly domain: DomainRef;
}

export type DomctlHandler = (context: DomctlContext) => DomctlResult;

const HANDLERS = new Map<number, DomctlHandler>(
  Object.entries({ ...DOMAIN_COMMANDS, ...VCPU_COMMANDS, ...POLICY_COMMANDS }).map(([name, handler]) => [
    Domctl[name as keyof typeof Domctl],
    handler,
  ]),
);

export class DomctlTable {
  readonly #m: ControlModules;

  constructor(modules: ControlModules) {
    this.#m = modules;
  }

  readonly hypercall = (call: HypercallCall): HypercallResult => {
    const address = call.args[0] ?? 0n;
    const raw = call.memory.read(address, XenDomctl.size);
    if (!raw) return -Errno.EFAULT;
    const request = new ControlRequest(call.memory, address, raw, DOMCTL_U);
    const op = XenDomctl.view(request.bytes, 0);
    if (op.interface_version !== XEN_DOMCTL_INTERFACE_VERSION) return -Errno.EACCES;
    const handler = HANDLERS.get(op.cmd);
    if (!handler) return -Errno.ENOSYS;
    let domain = this.#m.lifecycle.resolve(call.domain, op.domain);
    if (op.cmd === Domctl.createdomain) domain = call.domain;
    else if (op.cmd === Domctl.getdomaininfo) domain = this.#m.lifecycle.lookup(op.domain);
    if (!domain) return -Errno.ESRCH;
    const result = handler({ m: this.#m, call, request, domain });
    if (result !== 'copyBack') return result;
    return request.copyBack() ? 0 : -Errno.EFAULT;
  };
}
