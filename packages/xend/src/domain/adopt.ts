/** Domains that were there before this xend: their machines are put together again from xenstore and the hypervisor. */
import type { DomainInfo } from '@xenhost/libxenctrl';
import { atomNumber, atomText, childOf, isList, parseSxp, tagOf, type Sxp } from '@xenhost/sxp';
import { parseVmConfig } from '../config/parse.ts';
import type { DeviceConfig, VmConfig } from '../config/types.ts';
import { cpusOfMask } from '../config/cpus.ts';
import { messageOf } from '../errors.ts';
import type { Store, XendPorts } from '../ports.ts';
import { readVmConfigSxp } from '../store/nodes.ts';
import { SHUTDOWN_COMPLETED } from '../store/exit-notes.ts';
import { connectedDevices, removeDevice, XenbusState, type ConnectedDevice } from '../device/controller.ts';
import { domainPath, Vm } from './vm.ts';

export const DOM0_NAME = 'Domain-0';
/** Domain-0 has no limit: what Xen shows as such, MiB. */
const DOM0_MAXMEM_MIB = 16_777_215;
const KIB_PER_PAGE = 4;

/**
 * The machine behind a domain that xend does not know yet; `stored`: its configuration, where a file still has it. Devices
 * are those that are connected. Never throws: what cannot be read gets a plain default.
 */
export async function adoptDomain(
  info: DomainInfo,
  modules: Pick<XendPorts, 'xc' | 'store' | 'log'>,
  stored?: VmConfig,
): Promise<Vm> {
  const { store, log } = modules;
  const path = domainPath(info.domid);
  const vmPath = (await store.tryRead(`${path}/vm`)) ?? `/vm/${info.uuid}`;
  const vm = new Vm(stored ?? (await configOf(info, modules, vmPath)));
  const [storeMfn, storePort, consoleMfn, consolePort, startTime, completed, image] = await Promise.all([
    readNumber(store, `${path}/store/ring-ref`),
    readNumber(store, `${path}/store/port`),
    readNumber(store, `${path}/console/ring-ref`),
    readNumber(store, `${path}/console/port`),
    readNumber(store, `${vm.vmPath}/start_time`),
    store.tryRead(`${path}/${SHUTDOWN_COMPLETED}`),
    store.tryRead(`${vm.vmPath}/image`),
  ]);
  vm.live = {
    domid: info.domid,
    info,
    startTimeS: startTime ?? 0,
    storeMfn,
    storePort,
    consoleMfn,
    consolePort,
    protocol: await protocolOf(info, modules),
    notes: notesOf(image),
    exitHandled: completed !== undefined,
  };
  const connected = await readDevices(vm, store, log);
  const kept = stored?.devices.filter((device) => connected.some((other) => isSameDevice(device, other))) ?? [];
  const devices = [...kept, ...connected.filter((device) => !kept.some((other) => isSameDevice(device, other)))];
  vm.config = { ...vm.config, devices, ...(await readSchedule(info, modules, vm.config)) };
  log.info('XendDomain', `Found running domain ${vm.name} (${info.domid})`);
  return vm;
}

/** By UUID; where a backend holds none there is one of the class. */
const isSameDevice = (a: DeviceConfig, b: DeviceConfig): boolean =>
  a.class === b.class && (a.uuid === b.uuid || a.uuid === '' || b.uuid === '');

async function configOf(
  info: DomainInfo,
  { store, log }: Pick<XendPorts, 'store' | 'log'>,
  vmPath: string,
): Promise<VmConfig> {
  try {
    const sxp = await readVmConfigSxp(store, vmPath);
    return sxp === undefined ? await unknownConfig(info, store) : parseVmConfig(withUuid(sxp, info.uuid));
  } catch (error) {
    log.warn('XendDomain', `Domain ${info.domid}: configuration in xenstore is damaged: ${messageOf(error)}`);
    return unknownConfig(info, store);
  }
}

/** What frontends are told of the width of their rings. */
async function protocolOf(
  info: DomainInfo,
  { xc }: Pick<XendPorts, 'xc'>,
): Promise<'x86_64-abi' | 'x86_32-abi' | undefined> {
  if (info.domid === 0 || info.hvm) return undefined;
  try {
    return (await xc.domainGetAddressSize(info.domid)) === 32 ? 'x86_32-abi' : 'x86_64-abi';
  } catch {
    return undefined;
  }
}

/** The kernel's ELF notes, which stand in the machine's image SXP. */
function notesOf(image: string | undefined): Map<string, string> | undefined {
  if (image === undefined) return undefined;
  try {
    const notes = childOf(parseSxp(image), 'notes') ?? [];
    return new Map(
      notes.slice(1).flatMap((note): [string, string][] => {
        const key = tagOf(note);
        return key === undefined || !isList(note) ? [] : [[key, atomText(note[1]) ?? '']];
      }),
    );
  } catch {
    return undefined;
  }
}

function withUuid(sxp: Sxp, uuid: string): Sxp {
  return Array.isArray(sxp)
    ? [...(sxp as Sxp[]).filter((item) => !Array.isArray(item) || item[0] !== 'uuid'), ['uuid', uuid]]
    : sxp;
}

/** Domain-0, and domains that another tool made. */
async function unknownConfig(info: DomainInfo, store: Store): Promise<VmConfig> {
  const isDom0 = info.domid === 0;
  const name = (await store.tryRead(`${domainPath(info.domid)}/name`)) ?? (isDom0 ? DOM0_NAME : `Domain-${info.uuid}`);
  const memoryMiB = Math.max(1, Math.floor((info.nrPages * KIB_PER_PAGE) / 1024));
  const base = parseVmConfig([
    'vm',
    ['name', /^[\w.:+-]{1,128}$/.test(name) ? name : `Domain-${info.uuid}`],
    ['uuid', info.uuid],
    ['memory', memoryMiB],
    ['maxmem', Math.max(memoryMiB, isDom0 ? DOM0_MAXMEM_MIB : Math.floor(info.maxMemkb / 1024))],
    ['vcpus', Math.min(128, Math.max(1, info.maxVcpuId + 1))],
  ]);
  return base;
}

async function readSchedule(
  info: DomainInfo,
  { xc, log }: Pick<XendPorts, 'xc' | 'log'>,
  config: VmConfig,
): Promise<Pick<VmConfig, 'cpuWeight' | 'cpuCap' | 'cpus'>> {
  try {
    const [{ weight, cap }, physinfo] = await Promise.all([xc.schedCreditDomainGet(info.domid), xc.physinfo()]);
    const nrCpus = physinfo.maxCpuId + 1;
    const cpus = await Promise.all(
      config.cpus.map(async (_, vcpu) => {
        const allowed = cpusOfMask(await xc.vcpuGetaffinity(info.domid, vcpu), nrCpus);
        return allowed.length >= nrCpus ? [] : allowed;
      }),
    );
    return { cpuWeight: weight, cpuCap: cap, cpus };
  } catch (error) {
    log.warn('XendDomain', `Domain ${info.domid}: cannot read its schedule: ${messageOf(error)}`);
    return { cpuWeight: config.cpuWeight, cpuCap: config.cpuCap, cpus: config.cpus };
  }
}

/** Options of a device by the backend's nodes: enough to make the same device again. */
async function readDevices(vm: Vm, store: Store, log: XendPorts['log']): Promise<DeviceConfig[]> {
  const devices: DeviceConfig[] = [];
  for (const device of await connectedDevices(vm, store)) {
    if (await isHalfRemoved(store, device)) {
      // An earlier xend died while it took this one away.
      log.warn('XendDomain', `${vm.name}: removed device ${device.devid} (${device.class}), which was half removed`);
      await removeDevice(vm, store, device);
      continue;
    }
    const nodes = new Map<string, string>();
    for (const key of await store.tryDirectory(device.backendPath)) {
      nodes.set(key, (await store.tryRead(`${device.backendPath}/${key}`)) ?? '');
    }
    const backend = /^\/local\/domain\/(\d+)\//.exec(device.backendPath)?.[1] ?? '0';
    const options = new Map<string, Sxp>();
    if (nodes.has('params')) {
      const type = (await store.tryRead(`${device.frontendPath}/device-type`)) ?? 'disk';
      options.set('dev', `${nodes.get('dev') ?? ''}:${type}`);
      options.set('uname', `${nodes.get('type') ?? ''}:${nodes.get('params') ?? ''}`);
      options.set('mode', nodes.get('mode') ?? 'r');
      options.set('bootable', atomNumber(nodes.get('bootable')) ?? 0);
    } else {
      for (const [key, value] of nodes) if (!LINK_KEY.test(key)) options.set(key, value);
    }
    options.set('backend', Number(backend));
    devices.push({ class: device.class, uuid: nodes.get('uuid') ?? '', options });
  }
  return devices;
}

/** Nodes of a backend that are the connection's, not the configuration's. */
const LINK_KEY =
  /^(domain|frontend|frontend-id|state|online|handle|uuid|(hotplug|feature|multi-queue|request|max|physical)-.*)$/;

/** Told to go, and gone or never taken up. One that its guest still holds is followed (unplugs.ts). */
async function isHalfRemoved(store: Store, { backendPath }: ConnectedDevice): Promise<boolean> {
  const [online, state, hotplug] = await Promise.all(
    ['online', 'state', 'hotplug-status'].map((name) => store.tryRead(`${backendPath}/${name}`)),
  );
  return online !== '1' && (online !== '0' || state !== String(XenbusState.closing) || hotplug === undefined);
}

async function readNumber(store: Store, path: string): Promise<number | undefined> {
  return atomNumber(await store.tryRead(path));
}
