/** Operations on domains, for Domain-0's tools: INTRODUCE, RELEASE, RESUME, SET_TARGET, and the two questions about them. */
import { splitStrings } from '@xenhost/xs-wire';
import type { XsErrorName } from '@xenhost/xs-wire';
import type { IntroducedDomain } from './core.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { ACK, Later, leadingInt, oneString } from './request.ts';
import type { Handler, Request } from './request.ts';

export const introduce: Handler = ({ core, packet }) => {
  const [domidText, mfnText, portText] = splitStrings(packet.payload).strings;
  if (domidText === undefined || mfnText === undefined || portText === undefined) return fail('EINVAL');
  const domid = leadingInt(domidText);
  const port = leadingInt(portText);
  if (port <= 0 || domid < 0) return fail('EINVAL');
  return new Later(
    core.introduce(domid, mfnText, port).then(
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

export const setTarget: Handler = ({ core, packet }) => {
  const [domidText, targetText] = splitStrings(packet.payload).strings;
  if (domidText === undefined || targetText === undefined) return fail('EINVAL');
  const domain = core.domains.get(leadingInt(domidText));
  const target = core.domains.get(leadingInt(targetText));
  if (!domain || !target) return fail('ENOENT');
  domain.connection.target = target.domid;
  return ACK;
};

export const getDomainPath: Handler = ({ packet }) => {
  const text = oneString(packet.payload);
  return text === undefined ? fail('EINVAL') : `/local/domain/${leadingInt(text)}\0`;
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
