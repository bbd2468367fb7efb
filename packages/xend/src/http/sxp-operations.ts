/**
 * The operations that are posted to /xend/domain/NAME, one row each: the legacy method that does it and the form fields that
 * are its arguments, in order (Xen 4.4 `SrvDomain.py`). Fields are converted as the method's parameters are.
 */
import { parseSxp } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { XendError } from '../errors.ts';
import type { Method } from '../rpc/method.ts';

export interface Operation {
  /** Behind `xend.domain.`. */
  readonly method: string;
  /** Names of form fields, in the order of the method's parameters after the domain. */
  readonly fields: readonly string[];
  /** Answered 202 with a Location: the work may take long. */
  readonly accepted?: true;
}

const op = (method: string, ...fields: readonly string[]): Operation => ({ method, fields });
const accepted = (method: string, ...fields: readonly string[]): Operation => ({ method, fields, accepted: true });

export const DOMAIN_OPERATIONS: ReadonlyMap<string, Operation> = new Map(
  Object.entries({
    configure: op('configure', 'config'),
    unpause: op('unpause'),
    pause: op('pause'),
    rename: accepted('setName', 'name'),
    shutdown: accepted('shutdown', 'reason'),
    delete: accepted('delete'),
    start: accepted('start', 'paused'),
    sysrq: accepted('send_sysrq', 'key'),
    wait_for_devices: accepted('waitForDevices'),
    destroy: accepted('destroy'),
    save: accepted('save', 'file'),
    dump: accepted('dump', 'file', 'live', 'crash', 'reset'),
    migrate: op('migrate', 'destination', 'live', 'port', 'node', 'ssl', 'change_home_server'),
    pincpu: op('pincpu', 'vcpu', 'cpumap'),
    cpu_sedf_get: op('cpu_sedf_get'),
    cpu_sedf_set: op('cpu_sedf_set', 'period', 'slice', 'latency', 'extratime', 'weight'),
    domain_sched_credit_get: op('sched_credit_get'),
    domain_sched_credit_set: op('sched_credit_set', 'weight', 'cap'),
    domain_sched_credit2_get: op('sched_credit2_get'),
    domain_sched_credit2_set: op('sched_credit2_set', 'weight'),
    maxmem_set: op('maxmem_set', 'memory'),
    mem_target_set: op('setMemoryTarget', 'target'),
    devices: op('getDeviceSxprs', 'type'),
    device_create: op('device_create', 'config'),
    device_destroy: op('destroyDevice', 'type', 'dev', 'force', 'rm_cfg'),
    device_configure: op('device_configure', 'config', 'dev'),
    // Xen 4.4 knew its name and had nothing behind it.
    vif_limit_set: op('vif_limit_set', 'vif', 'credit', 'period'),
    set_vcpus: op('setVCpuCount', 'vcpus'),
    vcpuinfo: op('getVCPUInfo'),
    reset: accepted('reset'),
    do_get_pauseflag: accepted('getpauseflag'),
    do_set_pauseflag: accepted('setpauseflag', 'flag'),
    usb_add: accepted('usb_add', 'dev_id'),
    usb_del: accepted('usb_del', 'dev_id'),
  }),
);

/** A form: the last value of each field. */
export type Form = ReadonlyMap<string, string>;

const TRUE = ['on', 'yes', '1', 'true'];

/** A method's arguments from form fields, `first` before them. Throws XendError for a field that is missing. */
export function argumentsOf(
  { params }: Pick<Method, 'params'>,
  first: readonly XmlRpcValue[],
  fields: readonly string[],
  form: Form,
): XmlRpcValue[] {
  const args = [...first];
  for (const [index, field] of fields.entries()) {
    const param = params[first.length + index];
    const text = form.get(field);
    if (text !== undefined)
      args.push(param?.type === 'sxp' ? sxpOf(text) : param?.type === 'bool' ? isTrue(text) : text);
    else if (param && 'default' in param) args.push(param.default ?? null);
    else throw new XendError(`Missing parameter: ${field}`);
  }
  return args;
}

const isTrue = (text: string): boolean => TRUE.includes(text.toLowerCase());

/** A configuration as it was posted. Throws XendError. */
export function sxpOf(text: string): XmlRpcValue {
  try {
    return parseSxp(text);
  } catch (error) {
    throw new XendError(`Invalid configuration ${(error as Error).message}`, { cause: error });
  }
}
