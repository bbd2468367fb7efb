/**
 * One session of npm's xen-api, in a process of its own: connects, lists, makes a VM, starts and stops it, and prints what its
 * cache of objects followed by events, one JSON line a step. Arguments: the package's folder, URL, kernel.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

interface ApiObject {
  readonly $type: string;
  readonly name_label?: string;
  readonly power_state?: string;
}

/** What is used of the package. */
interface Xapi {
  readonly objects: {
    readonly all: Readonly<Record<string, ApiObject>>;
    on(
      event: 'add' | 'update' | 'remove',
      listener: (objects: Readonly<Record<string, ApiObject | undefined>>) => void,
    ): void;
  };
  readonly pool?: ApiObject;
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  call(method: string, ...args: readonly unknown[]): Promise<unknown>;
}

interface XenApiModule {
  readonly createClient: (options: object) => Xapi;
}

const WAIT_MS = 20_000;

const [folder = '', url = '', kernel = ''] = process.argv.slice(2);
const told = (step: string, detail: unknown): void => {
  process.stdout.write(`${JSON.stringify({ step, detail })}\n`);
};

async function main(): Promise<void> {
  const { createClient } = (await import(pathToFileURL(join(folder, 'index.mjs')).href)) as XenApiModule;
  const xapi = createClient({ url, auth: { user: 'root', password: '' } });
  const followed: string[] = [];
  for (const event of ['add', 'update', 'remove'] as const) {
    xapi.objects.on(event, (objects) => {
      for (const object of Object.values(objects)) {
        followed.push(
          `${event} ${object?.$type ?? ''} ${object?.name_label ?? ''} ${object?.power_state ?? ''}`.trim(),
        );
      }
    });
  }
  const until = async (what: string, condition: () => boolean): Promise<void> => {
    for (const deadline = Date.now() + WAIT_MS; !condition();) {
      if (Date.now() > deadline) throw new Error(`not followed: ${what}; ${followed.join(', ')}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  await xapi.connect();
  told('connect', xapi.pool?.name_label);
  await until('Domain-0', () => followed.includes('add VM Domain-0 Running'));
  const types = new Set(Object.values(xapi.objects.all).map(({ $type }) => $type));
  told('objects', [...types].sort());
  const ref = await xapi.call('VM.create', record());
  await until('creation', () => followed.includes('add VM npm Halted'));
  told('create', ref);
  await xapi.call('VM.start', ref, false);
  await until('start', () => followed.includes('update VM npm Running'));
  told('start', await xapi.call('VM.get_power_state', ref));
  await xapi.call('VM.pause', ref);
  await until('pause', () => followed.includes('update VM npm Paused'));
  await xapi.call('VM.unpause', ref);
  told('pause', await xapi.call('VM.get_power_state', ref));
  // What was told of it before it ran does not count.
  followed.length = 0;
  await xapi.call('VM.clean_shutdown', ref);
  await until('stop', () => followed.includes('update VM npm Halted'));
  told('stop', await xapi.call('VM.get_power_state', ref));
  followed.length = 0;
  await xapi.call('VM.destroy', ref);
  await until('destruction', () => followed.some((line) => line.startsWith('remove')));
  const error = await xapi.call('VM.start', ref, false).then(
    () => 'none',
    (failure: unknown) => (failure as { code?: string }).code,
  );
  told('destroy', error);
  process.exit(0);
}

const record = (): Readonly<Record<string, unknown>> => ({
  name_label: 'npm', name_description: '', user_version: '1', is_a_template: false, auto_power_on: false,
  memory_static_max: String(8 << 20), memory_static_min: '0', memory_dynamic_max: String(8 << 20),
  memory_dynamic_min: String(8 << 20), VCPUs_max: '1', VCPUs_at_startup: '1', VCPUs_params: {},
  actions_after_shutdown: 'destroy', actions_after_reboot: 'restart', actions_after_crash: 'destroy',
  actions_after_suspend: 'destroy', PV_kernel: kernel, PV_ramdisk: '', PV_args: '', PV_bootloader: '',
  PV_bootloader_args: '', HVM_boot_policy: '', HVM_boot_params: {}, platform: {}, PCI_bus: '', other_config: {},
}); // prettier-ignore

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
