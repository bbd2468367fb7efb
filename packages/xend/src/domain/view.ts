/** A machine as the SXP that clients get: `xm list --long` shows it key by key in this order. */
import { float, isList, type Sxp, type SxpList } from '@xenhost/sxp';
import { configHead, deviceSxp, imageSxp } from '../config/sxp.ts';
import { liveDevices } from './live-devices.ts';
import { PowerState, type Vm } from './vm.ts';

/** `(domain (domid 1) ...)`; `withDevices` adds what `full` asks for. `vifScript` is that of vifs that name none. */
export function vmSxp(vm: Vm, withDevices: boolean, vifScript?: string): SxpList {
  const { live, config } = vm;
  const sxp: Sxp[] = ['domain'];
  if (live) sxp.push(['domid', live.domid]);
  // Domain-0 was never described.
  sxp.push(...configHead(config).filter((item) => live?.domid !== 0 || !isList(item) || item[0] !== 'description'));
  if (live) {
    sxp.push(
      ['start_time', float(live.startTimeS)],
      ['cpu_time', float(Number(live.info.cpuTimeNs) / 1e9)],
      ['online_vcpus', live.info.nrOnlineVcpus],
    );
  }
  sxp.push(['image', imageSxp(config, live?.notes)], ['status', PowerState[vm.state]]);
  if (live) {
    sxp.push(['state', vm.stateLetters]);
    if (live.storeMfn !== undefined) sxp.push(['store_mfn', live.storeMfn]);
    if (live.consoleMfn !== undefined) sxp.push(['console_mfn', live.consoleMfn]);
  }
  if (!withDevices) return sxp;
  if (live) sxp.push(...liveDevices(vm, live, consoleUuid(vm.uuid), vifScript));
  else for (const device of config.devices) sxp.push(['device', deviceSxp(device)]);
  return sxp;
}

/** The console's own UUID: the machine's with another version nibble, so that it is the same in each answer. */
export const consoleUuid = (uuid: string): string => `${uuid.slice(0, 14)}c${uuid.slice(15)}`;
