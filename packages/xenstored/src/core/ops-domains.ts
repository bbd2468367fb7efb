/** Operations on domains, for Domain-0's tools: INTRODUCE, RELEASE, RESUME, SET_TARGET, and the two questions about them. */
import type { XsErrorName } from '@xenhost/xs-wire';
import type { IntroducedDomain } from './domains.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { DOMID_FIRST_RESERVED } from './limits.ts';
import { ACK, Later, leadingInt, oneString, strings } from './request.ts';
import type { Handler, Request } from './request.ts';

export const introduce: Handler = ({ core, packet }) => {
  const [domidText, mfn, portText] = strings(packet.payload);
  if (domidText === undefined || mfn === undefined || portText === undefined) return fail('EINVAL');
  const domid = leadingInt(domidText);
  // Unsigned, as for the C daemon: what is no port, the hypervisor says.
  const port = leadingInt(portText) >>> 0;
  if (port === 0 || domid < 0 || domid >= DOMID_FIRST_RESERVED) return fail('EINVAL');
  return new Later(
    core.introduce(domid, mfn, port).then(
      () => ACK,
      (error: unknown) => {
        core.log('introduce failed', { domid, port, err: error });
        return fail(xsErrorOf(error));
      },
    ),
  );
};

export const release: Handler = (request) => {
  const domain = connectedDomain(request);
  if (isFailure(domain)) return domain;
  request.core.domainGone(domain.domid);
  return ACK;
};

export const resume: Handler = (request) => {
  const domain = connectedDomain(request);
  if (isFailure(domain)) return domain;
  domain.shutdown = false;
  return ACK;
};

/** Domain-0 has all rights: with it as target a domain has those of what Domain-0 owns; a target of its own changes nothing. */
export const setTarget: Handler = ({ core, packet }) => {
  const [domidText, targetText] = strings(packet.payload);
  if (domidText === undefined || targetText === undefined) return fail('EINVAL');
  const domid = leadingInt(domidText);
  const targetDomid = leadingInt(targetText);
  const connection = core.domains.get(domid)?.connection;
  const target = targetDomid === 0 ? core.domain0 : core.domains.get(targetDomid)?.connection;
  if ((!connection && domid !== 0) || !target) return fail('ENOENT');
  if (!connection) return ACK;
  core.setTarget(connection, target);
  core.note({ op: 'target', domid, target: targetDomid });
  return ACK;
};

export const getDomainPath: Handler = ({ packet }) => {
  const text = oneString(packet.payload);
  return text === undefined ? fail('EINVAL') : `/local/domain/${leadingInt(text) >>> 0}\0`;
};

/** `DOMID_SELF` of xen.h. */
const DOMID_SELF = 0x7ff0;

export const isDomainIntroduced: Handler = ({ core, packet }) => {
  const text = oneString(packet.payload);
  if (text === undefined) return fail('EINVAL');
  const domid = leadingInt(text);
  return domid === 0 || domid === DOMID_SELF || core.domains.has(domid) ? 'T\0' : 'F\0';
};

function connectedDomain({ core, packet }: Request): IntroducedDomain | XsFailure {
  const text = oneString(packet.payload);
  const domid = text === undefined ? 0 : leadingInt(text);
  if (domid === 0) return fail('EINVAL');
  return core.domains.get(domid) ?? fail('ENOENT');
}

const PASSED_ON: ReadonlySet<string> = new Set(['ENOENT', 'ENOMEM', 'ENOSPC', 'EBUSY', 'EACCES', 'EPERM', 'EEXIST']);

/** The name of a hypervisor error where clients know it, else EINVAL. */
function xsErrorOf(error: unknown): XsErrorName {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' && PASSED_ON.has(code) ? (code as XsErrorName) : 'EINVAL';
}
