/**
 * All of xm's commands in the order of its long help: dispatch, help and usage come from here. The names, arguments and
 * options are Xen 4.4's (`tools/python/xen/xm/main.py`). Code is loaded only for the command that runs.
 */
import type { Command, OptionHelp } from './command.ts';

const PAUSED: OptionHelp = ['-p', '--paused', 'Leave the domain paused'];
const CONSOLE: OptionHelp = ['-c', '--console_autoconnect', 'Attach to the console of the new domain'];
const VIEWER: readonly OptionHelp[] = [
  ['', '--vncviewer', 'Open a VNC viewer on the new domain'],
  ['', '--vncviewer-autopass', 'Hand the VNC password to the viewer'],
];
const LONG: OptionHelp = ['-l', '--long', 'Show everything, as SXP'];
const ALL_TMEM: readonly OptionHelp[] = [['-a', '--all', 'All tmem pools']];

export const commands: readonly Command[] = [
  {
    name: 'console',
    args: '[-q|--quiet] <Domain>',
    doc: 'Attach to the console of a domain.',
    options: [['-q', '--quiet', 'Say nothing when there is no such domain']],
    count: [1, 3],
    load: async () => (await import('./console.ts')).console_,
  },
  {
    name: 'vncviewer',
    args: '[--[vncviewer-]autopass] <Domain>',
    doc: 'Open a VNC viewer on a domain.',
    options: [
      ['', '--autopass', 'Hand the VNC password to the viewer'],
      ['', '--vncviewer-autopass', 'The same as --autopass'],
    ],
  },
  {
    name: 'create',
    args: '<ConfigFile> [options] [vars]',
    doc: 'Create a domain from a configuration file.',
    load: async () => (await import('../create/create.ts')).create,
  },
  {
    name: 'new',
    args: '<ConfigFile> [options] [vars]',
    doc: 'Add a domain to those that xend manages.',
    load: async () => (await import('../create/create.ts')).new_,
  },
  {
    name: 'delete',
    args: '<DomainName>',
    doc: 'Remove a domain from those that xend manages.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).delete_,
  },
  {
    name: 'destroy',
    args: '<Domain>',
    doc: 'End a domain at once.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).destroy,
  },
  {
    name: 'domid',
    args: '<DomainName>',
    doc: 'Show the id of a domain.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).domid,
  },
  {
    name: 'domname',
    args: '<DomId>',
    doc: 'Show the name of a domain.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).domname,
  },
  {
    name: 'dump-core',
    args: '[-L|--live] [-C|--crash] [-R|--reset] <Domain> [Filename]',
    doc: 'Write the memory of a domain to a file.',
    options: [
      ['-L', '--live', 'Do not pause the domain meanwhile'],
      ['-C', '--crash', 'Crash the domain afterwards'],
      ['-R', '--reset', 'Reset the domain afterwards'],
    ],
  },
  {
    name: 'list',
    args: '[options] [Domain, ...]',
    doc: 'List all domains, or some.',
    options: [
      LONG,
      ['', '--label', 'Show security labels'],
      ['', '--state=<state>', 'Only domains in this state'],
      ['', '--pool=<pool>', 'Only domains of this CPU pool'],
    ],
    load: async () => (await import('./list.ts')).list,
  },
  {
    name: 'mem-max',
    args: '<Domain> <Mem>',
    doc: 'Limit the memory that a domain may have.',
    count: [2, 2],
    load: async () => (await import('./domain.ts')).memMax,
  },
  {
    name: 'mem-set',
    args: '<Domain> <Mem>',
    doc: 'Set the memory that a domain should use.',
    count: [2, 2],
    load: async () => (await import('./domain.ts')).memSet,
  },
  { name: 'migrate', args: '<Domain> <Host>', doc: 'Move a domain to another host.' },
  {
    name: 'pause',
    args: '<Domain>',
    doc: 'Stop a domain from running.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).pause,
  },
  {
    name: 'reboot',
    args: '<Domain> [-wa]',
    doc: 'Reboot a domain.',
    count: [1, 3],
    load: async () => (await import('./shutdown.ts')).reboot,
  },
  {
    name: 'rename',
    args: '<Domain> <NewDomainName>',
    doc: 'Give a domain another name.',
    count: [2, 2],
    load: async () => (await import('./domain.ts')).rename,
  },
  {
    name: 'reset',
    args: '<Domain>',
    doc: 'Destroy a domain and create it again.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).reset,
  },
  {
    name: 'restore',
    args: '<CheckpointFile> [-p]',
    doc: 'Bring a saved domain back.',
    options: [PAUSED],
  },
  {
    name: 'resume',
    args: '<DomainName>',
    doc: 'Bring a suspended managed domain back.',
    options: [PAUSED],
  },
  {
    name: 'save',
    args: '[-c] <Domain> <CheckpointFile>',
    doc: 'Save the state of a domain to a file.',
    options: [['-c', '--checkpoint', 'Let the domain run on']],
  },
  {
    name: 'shutdown',
    args: '<Domain> [-waRH]',
    doc: 'Ask a domain to shut down.',
    count: [1, 4],
    load: async () => (await import('./shutdown.ts')).shutdown,
  },
  {
    name: 'start',
    args: '<DomainName>',
    doc: 'Start a managed domain.',
    options: [PAUSED, CONSOLE, ...VIEWER],
    load: async () => (await import('./start.ts')).start,
  },
  { name: 'suspend', args: '<DomainName>', doc: 'Suspend a managed domain.' },
  {
    name: 'sysrq',
    args: '<Domain> <letter>',
    doc: 'Send a SysRq key to a domain.',
    count: [2, 2],
    load: async () => (await import('./domain.ts')).sysrq,
  },
  {
    name: 'trigger',
    args: '<Domain> <nmi|reset|init|s3resume|power> [<VCPU>]',
    doc: 'Send a trigger to a vCPU of a domain.',
    count: [2, 3],
    load: async () => (await import('./domain.ts')).trigger,
  },
  { name: 'top', args: '', doc: 'Watch the host and its domains.' },
  {
    name: 'unpause',
    args: '<Domain>',
    doc: 'Let a paused domain run again.',
    count: [1, 1],
    load: async () => (await import('./domain.ts')).unpause,
  },
  {
    name: 'uptime',
    args: '[-s] [Domain, ...]',
    doc: 'Show how long domains have been up.',
    load: async () => (await import('./uptime.ts')).uptime,
  },
  {
    name: 'usb-add',
    args: '<domain> <[host:bus.addr] [host:vendor_id:product_id]>',
    doc: 'Give a USB device to a fully virtual domain.',
  },
  {
    name: 'usb-del',
    args: '<domain> <[host:bus.addr] [host:vendor_id:product_id]>',
    doc: 'Take a USB device from a fully virtual domain.',
  },
  {
    name: 'domstate',
    args: '<domain> ',
    doc: 'Show the state of a domain.',
    count: [1, 1],
    load: async () => (await import('./list.ts')).domstate,
  },
  {
    name: 'vcpu-list',
    args: '[Domain, ...]',
    doc: 'List the vCPUs of all domains, or of some.',
    load: async () => (await import('./vcpus.ts')).vcpuList,
  },
  {
    name: 'vcpu-pin',
    args: '<Domain> <VCPU|all> <CPUs|all>',
    doc: 'Set the CPUs that a vCPU may run on.',
    count: [3, 3],
    load: async () => (await import('./vcpus.ts')).vcpuPin,
  },
  {
    name: 'vcpu-set',
    args: '<Domain> <vCPUs>',
    doc: 'Set how many vCPUs a domain may use.',
    count: [2, 2],
    load: async () => (await import('./vcpus.ts')).vcpuSet,
  },
  {
    name: 'debug-keys',
    args: '<Keys>',
    doc: 'Send debug keys to Xen.',
    count: [1, 1],
    load: async () => (await import('./host.ts')).debugKeys,
  },
  {
    name: 'dmesg',
    args: '[-c|--clear]',
    doc: "Show the hypervisor's messages.",
    options: [['-c', '--clear', 'Empty the buffer after showing it']],
    count: [0, 1],
    load: async () => (await import('./host.ts')).dmesg,
  },
  {
    name: 'info',
    args: '[-c|--config] [-n|--numa]',
    doc: 'Show what this host is.',
    options: [
      ['-c', '--config', "List xend's configuration"],
      ['-n', '--numa', 'Show CPUs and memory nodes too'],
    ],
    count: [0, 1],
    load: async () => (await import('./host.ts')).info,
  },
  {
    name: 'log',
    args: '',
    doc: "Show xend's log.",
    count: [0, 0],
    load: async () => (await import('./host.ts')).log,
  },
  { name: 'serve', args: '', doc: "Pass xend's XML-RPC through standard input and output." },
  {
    name: 'sched-credit2',
    args: '[-d <Domain> [-w[=WEIGHT]]',
    doc: 'Show or set what the credit2 scheduler gives a domain.',
    options: [
      ['-d DOMAIN', '--domain=DOMAIN', 'The domain'],
      ['-w WEIGHT', '--weight=WEIGHT', 'Its weight'],
    ],
    load: async () => (await import('./schedule.ts')).schedCredit2,
  },
  {
    name: 'sched-credit',
    args: '[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]]',
    doc: 'Show or set what the credit scheduler gives a domain.',
    options: [
      ['-d DOMAIN', '--domain=DOMAIN', 'The domain'],
      ['-w WEIGHT', '--weight=WEIGHT', 'Its weight'],
      ['-c CAP', '--cap=CAP', 'Its cap'],
    ],
    load: async () => (await import('./schedule.ts')).schedCredit,
  },
  {
    name: 'sched-sedf',
    args: '<Domain> [options]',
    doc: 'Show or set what the EDF scheduler gives a domain.',
    options: [
      ['-p [MS]', '--period[=MS]', 'Period (ms)'],
      ['-s [MS]', '--slice[=MS]', 'Slice of the period (ms)'],
      ['-l [MS]', '--latency[=MS]', 'Period under heavy I/O (ms)'],
      ['-e [FLAG]', '--extra[=FLAG]', 'Whether it may use spare time'],
      ['-w [FLOAT]', '--weight[=FLOAT]', 'Weight instead of period and slice'],
    ],
    load: async () => (await import('./schedule.ts')).schedSedf,
  },
  {
    name: 'block-attach',
    args: '<Domain> <BackDev> <FrontDev> <Mode> [BackDomain]',
    doc: 'Give a disk to a domain.',
    count: [4, 5],
    load: async () => (await import('./devices.ts')).blockAttach,
  },
  {
    name: 'block-detach',
    args: '<Domain> <DevId> [-f|--force]',
    doc: 'Take a disk from a domain.',
    load: async () => (await import('./devices.ts')).blockDetach,
  },
  {
    name: 'block-list',
    args: '<Domain> [--long]',
    doc: 'List the disks of a domain.',
    load: async () => (await import('./devices.ts')).blockList,
  },
  {
    name: 'block-configure',
    args: '<Domain> <BackDev> <FrontDev> <Mode> [BackDomain]',
    doc: 'Change a disk of a domain.',
  },
  {
    name: 'network-attach',
    args:
      '<Domain> [type=<type>] [mac=<mac>] [bridge=<bridge>] [ip=<ip>] [script=<script>] [backend=<BackDomain>] ' +
      '[vifname=<name>] [rate=<rate>] [model=<model>][accel=<accel>]',
    doc: 'Give a network interface to a domain.',
    count: [1, 11],
    load: async () => (await import('./devices.ts')).networkAttach,
  },
  {
    name: 'network-detach',
    args: '<Domain> <DevId|mac> [-f|--force]',
    doc: 'Take a network interface from a domain.',
    load: async () => (await import('./devices.ts')).networkDetach,
  },
  {
    name: 'network-list',
    args: '<Domain> [--long]',
    doc: 'List the network interfaces of a domain.',
    options: [LONG],
    load: async () => (await import('./devices.ts')).networkList,
  },
  {
    name: 'network2-attach',
    args:
      '<Domain> [front_mac=<mac>] [back_mac=<mac>] [backend=<BackDomain>] [trusted=<0|1>] [back_trusted=<0|1>] ' +
      '[bridge=<bridge>] [filter_mac=<0|1>] [front_filter_mac=<0|1>] [pdev=<PDEV>] [max_bypasses=n]',
    doc: 'Give a version 2 network interface to a domain.',
  },
  {
    name: 'network2-detach',
    args: '<Domain> <DevId> [-f|--force]',
    doc: 'Take a version 2 network interface from a domain.',
  },
  {
    name: 'network2-list',
    args: '<Domain> [--long]',
    doc: 'List the version 2 network interfaces of a domain.',
  },
  {
    name: 'pci-attach',
    args: '[-o|--options=<opt>] <Domain> <domain:bus:slot.func> [virtual slot]',
    doc: 'Give a PCI device of the host to a domain.',
  },
  {
    name: 'pci-detach',
    args: '<Domain> <domain:bus:slot.func>',
    doc: 'Take a PCI device of the host from a domain.',
  },
  { name: 'pci-list', args: '<Domain>', doc: 'List the PCI devices that a domain has.' },
  { name: 'pci-list-assignable-devices', args: '', doc: 'List the PCI devices that domains can be given.' },
  {
    name: 'scsi-attach',
    args: '<Domain> <PhysDevice> <VirtDevice> [BackDomain]',
    doc: 'Give a SCSI device to a domain.',
  },
  { name: 'scsi-detach', args: '<Domain> <VirtDevice>', doc: 'Take a SCSI device from a domain.' },
  { name: 'scsi-list', args: '<Domain> [--long]', doc: 'List the SCSI devices of a domain.' },
  {
    name: 'usb-attach',
    args: '<Domain> <DevId> <PortNumber> <BusId>',
    doc: "Plug a USB device of the host into a domain's virtual port.",
  },
  {
    name: 'usb-detach',
    args: '<Domain> <DevId> <PortNumber>',
    doc: "Pull a USB device of the host out of a domain's virtual port.",
  },
  { name: 'usb-list', args: '<Domain>', doc: 'List the virtual USB ports of a domain.' },
  { name: 'usb-list-assignable-devices', args: '', doc: 'List the USB devices that domains can be given.' },
  {
    name: 'usb-hc-create',
    args: '<Domain> <USBSpecVer> <NumberOfPorts>',
    doc: 'Give a virtual USB host controller to a domain.',
  },
  { name: 'usb-hc-destroy', args: '<Domain> <DevId>', doc: 'Take a virtual USB host controller from a domain.' },
  { name: 'vnet-list', args: '[-l|--long]', doc: 'List virtual networks.', options: [LONG], hidden: true },
  { name: 'vnet-create', args: '<ConfigFile>', doc: 'Create a virtual network.', hidden: true },
  { name: 'vnet-delete', args: '<VnetId>', doc: 'Delete a virtual network.', hidden: true },
  {
    name: 'setpolicy',
    args: '<policytype> <policyfile> [options]',
    doc: 'Set the security policy.',
  },
  { name: 'labels', args: '[policy] [type=dom|res|any]', doc: 'List security labels.' },
  {
    name: 'addlabel',
    args: '<label> {dom <ConfigFile>|res <resource>|mgt <managed domain>} [<policy>]',
    doc: 'Add a security label.',
  },
  {
    name: 'rmlabel',
    args: '{dom <ConfigFile>|res <Resource>|mgt<managed domain>}',
    doc: 'Remove a security label.',
  },
  {
    name: 'getlabel',
    args: '{dom <ConfigFile>|res <Resource>|mgt <managed domain>}',
    doc: 'Show a security label.',
  },
  { name: 'dry-run', args: '<ConfigFile>', doc: 'Tell whether a domain may use its resources.' },
  { name: 'resources', args: '', doc: 'Show labelled resources.' },
  { name: 'dumppolicy', args: '', doc: "Show the hypervisor's access control state." },
  { name: 'resetpolicy', args: '', doc: 'Go back to the default security policy.' },
  { name: 'getpolicy', args: '[options]', doc: 'Show the security policy.' },
  { name: 'getenforce', args: '', doc: 'Show whether the Flask module enforces.' },
  { name: 'setenforce', args: '[ (Enforcing|1) | (Permissive|0) ]', doc: 'Set whether the Flask module enforces.' },
  {
    name: 'tmem-list',
    args: '[-l|--long] [<Domain>|-a|--all]',
    doc: 'List tmem pools.',
    options: [['-l', '--long', 'Show statistics']],
  },
  { name: 'tmem-thaw', args: '[<Domain>|-a|--all]', doc: 'Thaw tmem pools.', options: ALL_TMEM },
  { name: 'tmem-freeze', args: '[<Domain>|-a|--all]', doc: 'Freeze tmem pools.', options: ALL_TMEM },
  { name: 'tmem-flush', args: '[<Domain>|-a|--all] [-p|--pages=<pages>]', doc: 'Flush tmem pools.', hidden: true },
  { name: 'tmem-destroy', args: '[<Domain>|-a|--all]', doc: 'Destroy tmem pools.', options: ALL_TMEM },
  {
    name: 'tmem-set',
    args: '[<Domain>|-a|--all] [weight=<weight>] [cap=<cap>] [compress=<compress>]',
    doc: 'Change tmem settings.',
    options: ALL_TMEM,
  },
  { name: 'tmem-freeable', args: '', doc: 'Show how much tmem can be freed (MiB).', hidden: true },
  {
    name: 'tmem-shared-auth',
    args: '[<Domain>|-a|--all] [--uuid=<uuid>] [--auth=<0|1>]',
    doc: 'Allow or refuse a shared tmem pool.',
    options: [...ALL_TMEM, ['-u', '--uuid', 'The pool'], ['-A', '--auth', '0 to allow, 1 to refuse']],
  },
  { name: 'cpupool-create', args: '<ConfigFile> [vars]', doc: 'Create a CPU pool from a configuration file.' },
  { name: 'cpupool-new', args: '<ConfigFile> [vars]', doc: 'Add a CPU pool to those that xend manages.' },
  { name: 'cpupool-start', args: '<CPU Pool>', doc: 'Start a managed CPU pool.' },
  {
    name: 'cpupool-list',
    args: '[<CPU Pool>] [-l|--long] [-c|--cpus]',
    doc: 'List the CPU pools of the host.',
    options: [LONG, ['-c', '--cpus', 'Show the CPUs of each pool']],
  },
  { name: 'cpupool-destroy', args: '<CPU Pool>', doc: 'Stop a CPU pool.' },
  { name: 'cpupool-delete', args: '<CPU Pool>', doc: 'Remove a CPU pool from those that xend manages.' },
  { name: 'cpupool-cpu-add', args: '<CPU Pool> <CPU nr>', doc: 'Add a CPU to a pool.' },
  { name: 'cpupool-cpu-remove', args: '<CPU Pool> <CPU nr>', doc: 'Take a CPU out of a pool.' },
  { name: 'cpupool-migrate', args: '<Domain> <CPU Pool>', doc: 'Move a domain to a CPU pool.' },
  { name: 'shell', args: '', doc: 'Start an interactive shell.' },
  { name: 'event-monitor', args: '', doc: 'Show events.', hidden: true },
  { name: 'network-new', args: '<Name>', doc: 'Create a network.', hidden: true },
  { name: 'network-del', args: '<Name>', doc: 'Delete a network.', hidden: true },
  { name: 'network-show', args: '', doc: 'List networks.', hidden: true },
];

/** Old names. */
export const aliases: Readonly<Record<string, string>> = {
  balloon: 'mem-set',
  'set-vcpus': 'vcpu-set',
  'vif-list': 'network-list',
  'vbd-list': 'block-list',
  'vbd-create': 'block-attach',
  'vbd-destroy': 'block-detach',
  ...Object.fromEntries(
    ['create', 'new', 'start', 'list', 'destroy', 'delete', 'cpu-add', 'cpu-remove', 'migrate'].map((name) => [
      `pool-${name}`,
      `cpupool-${name}`,
    ]),
  ),
};

/** `help` is not a command that runs: cli.ts answers it. The short help lists it here. */
export const HELP_ROW: Command = { name: 'help', args: '', doc: 'Show this text.' };

/** The order of the short help. */
export const COMMON_ORDER = [
  'console', 'vncviewer', 'create', 'new', 'delete', 'destroy', 'dump-core', 'help', 'list', 'mem-set', 'migrate', 'pause',
  'reboot', 'reset', 'restore', 'resume', 'save', 'shell', 'shutdown', 'start', 'suspend', 'top', 'unpause', 'uptime',
  'usb-add', 'usb-del', 'domstate', 'vcpu-set',
]; // prettier-ignore
