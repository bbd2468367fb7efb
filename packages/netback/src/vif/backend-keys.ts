/**
 * What the toolstack says of a vif in the backend's directory (facts: xend's netif.py), read as the hotplug script of the vif
 * would (tools/hotplug/Linux/vif-bridge): its words become the port's configuration, and what would have to be done by another
 * script is refused by its name.
 */
import type { PortFilter } from '../switch/frame.ts';
import { parseRate } from './credit.ts';
import type { Rate } from './credit.ts';
import { INTERFACE_NAME_CHARS } from './limits.ts';

export interface VifConfig {
  readonly mac: string;
  /** Empty: the first one there is, as the script has it. */
  readonly bridge: string;
  /** The port's name: vif1.0, or what the user has chosen. */
  readonly name: string;
  readonly rate: Rate | undefined;
  readonly filter: PortFilter;
}

/** Answers hotplug with an error that the user reads. */
export class HotplugError extends Error {}

const BRIDGE_SCRIPT = 'vif-bridge';
/** Words that a script is given and that mean something here. */
const SCRIPT_WORDS = new Set(['bridge', 'ip']);
const NAME = /^[A-Za-z0-9_.:@-]+$/;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
const GROUP_BIT = 1;

/** Throws HotplugError. `keys` are the nodes of the backend's directory. */
export function vifConfig(
  keys: ReadonlyMap<string, string>,
  device: { readonly frontendDomid: number; readonly deviceId: number },
): VifConfig {
  const words = scriptWords(keys.get('script') ?? BRIDGE_SCRIPT);
  // The store overrides the script's own words, as vif-common.sh has it.
  const bridge = keys.get('bridge') || words.get('bridge') || '';
  const ips = (keys.get('ip') || words.get('ip') || '').split(/[\s,]+/).filter((each) => each !== '');
  const mac = (keys.get('mac') ?? '').toLowerCase();
  if (!MAC.test(mac)) throw new HotplugError(`MAC address ${JSON.stringify(mac)} is not one`);
  if ((Number.parseInt(mac.slice(0, 2), 16) & GROUP_BIT) !== 0)
    throw new HotplugError(`MAC address ${mac} is a group's`);
  const name = keys.get('vifname') || `vif${device.frontendDomid}.${device.deviceId}`;
  if (!NAME.test(name) || name.length > INTERFACE_NAME_CHARS) {
    throw new HotplugError(`vifname ${JSON.stringify(name)} cannot be an interface's name`);
  }
  return {
    mac,
    bridge,
    name,
    rate: parseRate(keys.get('rate')),
    filter: ips.length > 0 ? { ips } : {},
  };
}

/** `/etc/xen/scripts/vif-bridge bridge=xenbr1`: the words after the script's name. */
function scriptWords(text: string): ReadonlyMap<string, string> {
  const [path = '', ...rest] = text.trim().split(/\s+/);
  const script = path.slice(path.lastIndexOf('/') + 1);
  if (script !== BRIDGE_SCRIPT) {
    throw new HotplugError(`script ${path} cannot be run: no scripts run here, and only ${BRIDGE_SCRIPT} is built in`);
  }
  const words = new Map<string, string>();
  for (const word of rest) {
    const equals = word.indexOf('=');
    const key = word.slice(0, Math.max(equals, 0));
    if (!SCRIPT_WORDS.has(key)) throw new HotplugError(`script ${path}: ${word} has no effect here`);
    words.set(key, word.slice(equals + 1));
  }
  return words;
}
