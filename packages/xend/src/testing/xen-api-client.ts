/** A client of the Xen-API for tests: logs in when it must, takes results apart, no socket in between. */
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { XenApi, XenApiPeer } from '../xenapi/index.ts';

export const LOCAL: XenApiPeer = { local: true, auth: 'none' };

export class XenApiClient {
  readonly #api: () => XenApi;
  #session = '';

  constructor(api: () => XenApi) {
    this.#api = api;
  }

  get session(): string {
    return this.#session;
  }

  /** The result as it is, Status and all. */
  readonly raw = async (method: string, ...params: XmlRpcValue[]): Promise<XmlRpcStruct> =>
    (await this.#api().call(method, params, LOCAL)) as XmlRpcStruct;

  async login(): Promise<string> {
    const { Value } = await this.raw('session.login_with_password', 'root', '');
    this.#session = Value as string;
    return this.#session;
  }

  /** The value of a call that succeeds. */
  readonly ask = async <T extends XmlRpcValue = XmlRpcValue>(method: string, ...params: XmlRpcValue[]): Promise<T> => {
    if (this.#session === '') await this.login();
    const result = await this.raw(method, this.#session, ...params);
    if (result['Status'] !== 'Success') throw new Error(`${method}: ${JSON.stringify(result['ErrorDescription'])}`);
    return result['Value'] as T;
  };

  /** What a call that fails is told. */
  readonly failure = async (method: string, ...params: XmlRpcValue[]): Promise<XmlRpcValue> => {
    if (this.#session === '') await this.login();
    const result = await this.raw(method, this.#session, ...params);
    return result['ErrorDescription'] ?? ['no failure', result['Value'] ?? ''];
  };
}

/** What today's clients and xm's own Xen-API mode send to VM.create. */
export const vmRecord = (name: string, more: XmlRpcStruct = {}): XmlRpcStruct => ({
  name_label: name,
  name_description: 'for tests',
  user_version: '1',
  is_a_template: false,
  auto_power_on: false,
  memory_static_max: String(64 << 20),
  memory_dynamic_max: String(64 << 20),
  memory_dynamic_min: String(32 << 20),
  memory_static_min: '0',
  VCPUs_params: {},
  VCPUs_max: '2',
  VCPUs_at_startup: '2',
  actions_after_shutdown: 'destroy',
  actions_after_reboot: 'restart',
  actions_after_crash: 'rename_restart',
  PV_kernel: '/boot/vmlinuz',
  PV_ramdisk: '',
  PV_args: 'root=/dev/xvda1 quiet',
  PV_bootloader: '',
  PV_bootloader_args: '',
  HVM_boot_policy: '',
  HVM_boot_params: {},
  platform: {},
  PCI_bus: '',
  other_config: { owner: 'tests' },
  ...more,
});
