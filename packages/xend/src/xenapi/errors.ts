/**
 * The registry of the Xen-API's error codes (Xen 4.4 `XendError.py`, `XendAPI.py`). A caller's mistake is one of these and
 * becomes `ErrorDescription`; anything else that is thrown becomes INTERNAL_ERROR.
 */

/** A call that fails, as the caller sees it: a code and its arguments. */
export class ApiError extends Error {
  readonly description: readonly string[];
  constructor(code: string, ...args: readonly (string | number)[]) {
    super([code, ...args].join(': '));
    this.name = 'ApiError';
    this.description = [code, ...args.map(String)];
  }
}

export const sessionInvalid = (ref: string): ApiError => new ApiError('SESSION_INVALID', ref);
export const authenticationFailed = (): ApiError => new ApiError('SESSION_AUTHENTICATION_FAILED');
export const sessionNotRegistered = (ref: string): ApiError => new ApiError('SESSION_NOT_REGISTERED', ref);
export const eventsLost = (): ApiError => new ApiError('EVENTS_LOST');
export const permissionDenied = (): ApiError => new ApiError('PERMISSION_DENIED');
export const handleInvalid = (className: string, ref: string): ApiError =>
  new ApiError('HANDLE_INVALID', className, ref);
export const methodUnknown = (method: string): ApiError => new ApiError('MESSAGE_METHOD_UNKNOWN', method);
export const countMismatch = (method: string, expected: number, got: number): ApiError =>
  new ApiError('MESSAGE_PARAMETER_COUNT_MISMATCH', method, expected, got);
export const badPowerState = (ref: string, expected: string, actual: string): ApiError =>
  new ApiError('VM_BAD_POWER_STATE', ref, expected, actual);
/** A value that does not fit its field or parameter. */
export const valueNotSupported = (what: string, value: string, why: string): ApiError =>
  new ApiError('VALUE_NOT_SUPPORTED', what, value, why);
export const normalExitInvalid = (vm: string): ApiError => new ApiError('VM_ON_NORMAL_EXIT_INVALID', vm);
export const crashBehaviourInvalid = (vm: string): ApiError => new ApiError('VM_ON_CRASH_BEHAVIOUR_INVALID', vm);
export const hvmRequired = (vm: string): ApiError => new ApiError('VM_HVM_REQUIRED', vm);
export const consoleProtocolInvalid = (why: string): ApiError => new ApiError('CONSOLE_PROTOCOL_INVALID', why);
export const unspecifiedAttribute = (attribute: string, className: string): ApiError =>
  new ApiError('CREATE_UNSPECIFIED_ATTRIBUTE', attribute, className);
export const uniqueName = (name: string, className: string): ApiError =>
  new ApiError('UNIQUE_NAME_ERROR', name, className);
export const notAllowed = (why?: string): ApiError =>
  new ApiError('OPERATION_NOT_ALLOWED', ...(why === undefined ? [] : [why]));
export const unmanagedNetwork = (attribute: string): ApiError => new ApiError('UNMANAGED_NETWORK_ERROR', attribute);
export const invalidDevice = (device: string): ApiError => new ApiError('INVALID_DEVICE_ERROR', device);
export const vlanTagInvalid = (tag: string): ApiError => new ApiError('VLAN_TAG_INVALID', tag);
export const networkError = (why: string, network: string): ApiError => new ApiError('NETWORK_ERROR', why, network);
export const vdiError = (why: string, vdi: string): ApiError => new ApiError('VDI_ERROR', why, vdi);
export const securityError = (code: number, why: string): ApiError => new ApiError('SECURITY_ERROR', code, why);
export const internalError = (text: string): ApiError => new ApiError('INTERNAL_ERROR', text);
export const debugFail = (session: string): ApiError => new ApiError('DEBUG_FAIL', session);
/** The older codes of single methods. */
export const unsupported = (): ApiError => new ApiError('EUNSUPPORTED', 'Method Unsupported');
export const hostRunning = (): ApiError => new ApiError('EHOSTRUNNING', 'Host is still Running');
/** A limit of ours, named. */
export const limitReached = (what: string, limit: number): ApiError => new ApiError('LIMIT_REACHED', what, limit);
