/**
 * The options and variables of `xm create`, one row each: what the command line takes, the defaults, what --help_config
 * prints (Xen 4.4 `tools/python/xen/xm/create.py`).
 */
import type { OptionRow } from '../options.ts';

/** A setting's value once it is known: as Python had it. */
export type Setting = string | number | null | readonly Setting[];

export type VariableKind = 'text' | 'int' | 'yes' | 'list';

export interface Variable {
  readonly name: string;
  readonly kind: VariableKind;
  readonly fallback: Setting;
  readonly doc: string;
}

const row = (name: string, kind: VariableKind, fallback: Setting, doc: string): Variable => ({
  name,
  kind,
  fallback,
  doc,
});

export const variables: readonly Variable[] = [
  row('vncpasswd', 'text', null, 'password of the VNC console'),
  row('vncviewer', 'yes', null, 'open a VNC viewer'),
  row('vncconsole', 'yes', null, 'open a VNC viewer on the console'),
  row('name', 'text', null, 'name of the domain'),
  row('bootloader', 'text', null, 'program that finds kernel and ramdisk'),
  row('bootargs', 'text', null, 'arguments of the boot loader'),
  row('bootentry', 'text', null, 'obsolete'),
  row('kernel', 'text', null, 'path of the kernel'),
  row('ramdisk', 'text', '', 'path of the ramdisk'),
  row('loader', 'text', '', 'path of the HVM firmware'),
  row('features', 'text', '', 'features to turn on in the kernel'),
  row('builder', 'text', 'linux', 'how to build the domain: linux, generic or hvm'),
  row('memory', 'int', 128, 'memory at start, MiB'),
  row('maxmem', 'int', null, 'memory at most, MiB'),
  row('shadow_memory', 'int', 0, 'memory of shadow page tables, MiB'),
  row('memory_sharing', 'yes', 0, 'share equal pages'),
  row('cpu', 'int', null, 'CPU of the first vCPU'),
  row('cpus', 'text', null, 'CPUs that the vCPUs may run on'),
  row('rtc_timeoffset', 'int', 0, 'offset of the real-time clock, seconds'),
  row('pae', 'int', 1, 'PAE for an HVM domain'),
  row('hpet', 'int', 0, 'HPET for an HVM domain'),
  row('timer_mode', 'int', 1, 'what happens to missed ticks'),
  row('tsc_mode', 'int', 0, 'time stamp counter: 0 default, 1 emulate, 2 native, 3 pvrdtscp'),
  row('nomigrate', 'int', 0, 'refuse to migrate'),
  row('vpt_align', 'int', 1, 'align virtual timers'),
  row('viridian', 'int', 0, 'Viridian interface'),
  row('acpi', 'int', 1, 'ACPI for an HVM domain'),
  row('apic', 'int', 1, 'APIC for an HVM domain'),
  row('vcpus', 'int', 1, 'number of vCPUs'),
  row('vcpu_avail', 'int', null, 'bit mask of vCPUs that are online'),
  row('vhpt', 'int', 0, 'page table of IA64'),
  row('cpu_cap', 'int', null, 'CPU cap, percent'),
  row('cpu_weight', 'int', null, 'CPU weight'),
  row('restart', 'text', null, 'old form of the on_ settings: onreboot, always or never'),
  row('on_poweroff', 'text', null, 'destroy, restart, preserve or rename-restart'),
  row('on_reboot', 'text', null, 'destroy, restart, preserve or rename-restart'),
  row('on_crash', 'text', null, 'the same, or coredump-destroy, coredump-restart'),
  row('blkif', 'yes', 0, 'serve block devices to other domains'),
  row('netif', 'yes', 0, 'serve network devices to other domains'),
  row('disk', 'list', [], 'a disk: UNAME,VDEV,MODE[,DOM]'),
  row('pci', 'list', [], 'a PCI device of the host'),
  row('vscsi', 'list', [], 'a SCSI device of the host: PDEV,VDEV[,DOM]'),
  row('vusb', 'list', [], 'a virtual USB host controller'),
  row('ioports', 'list', [], 'a range of I/O ports: FROM[-TO], hexadecimal'),
  row('irq', 'list', [], 'an interrupt of the host'),
  row('vfb', 'list', [], 'a virtual frame buffer'),
  row('vif', 'list', [], 'a network interface: mac=,bridge=,ip=,script=,backend=,vifname=,rate=,model=,accel='),
  row('vif2', 'list', [], 'a version 2 network interface'),
  row('access_control', 'list', [], 'policy=POLICY,label=LABEL'),
  row('nics', 'int', -1, 'obsolete: number of network interfaces'),
  row('root', 'text', '', 'root= of the kernel'),
  row('extra', 'text', '', 'more words for the kernel'),
  row('ip', 'text', '', 'IP address of the kernel'),
  row('gateway', 'text', '', 'gateway of the kernel'),
  row('netmask', 'text', '', 'netmask of the kernel'),
  row('hostname', 'text', '', 'host name of the kernel'),
  row('interface', 'text', 'eth0', 'interface of the kernel'),
  row('dhcp', 'text', 'off', 'DHCP of the kernel'),
  row('nfs_server', 'text', null, 'NFS server of the root file system'),
  row('nfs_root', 'text', null, 'path of the root file system on it'),
  row('device_model', 'text', null, 'path of the device model'),
  row('fda', 'text', '', 'first floppy'),
  row('fdb', 'text', '', 'second floppy'),
  row('parallel', 'text', '', 'parallel port'),
  row('serial', 'text', '', 'serial port'),
  row('monitor', 'yes', 0, "the device model's monitor"),
  row('monitor_path', 'text', '', 'where the monitor listens'),
  row('localtime', 'yes', 0, 'real-time clock in local time'),
  row('keymap', 'text', '', 'keyboard layout'),
  row('usb', 'yes', 0, 'emulate USB'),
  row('usbdevice', 'text', '', 'USB device to emulate'),
  row('description', 'text', '', 'free text'),
  row('guest_os_type', 'text', 'default', 'kind of guest system'),
  row('stdvga', 'yes', 0, 'standard VGA'),
  row('isa', 'yes', 0, 'ISA only'),
  row('boot', 'text', 'c', 'boot order'),
  row('nographic', 'yes', 0, 'no graphics'),
  row('soundhw', 'text', '', 'sound card'),
  row('vnc', 'text', null, 'VNC for an HVM domain'),
  row('vncdisplay', 'text', null, 'number of the VNC display'),
  row('vnclisten', 'text', null, 'address that VNC listens on'),
  row('vncunused', 'yes', 1, 'take the first free VNC display'),
  row('videoram', 'int', 4, 'memory of the graphics card, MiB'),
  row('sdl', 'text', null, 'SDL for an HVM domain'),
  row('gfx_passthru', 'text', null, 'pass the graphics card through'),
  row('opengl', 'text', null, 'OpenGL in SDL'),
  row('display', 'text', null, 'X display'),
  row('xauthority', 'text', null, 'X authority file'),
  row('uuid', 'text', null, 'UUID of the domain'),
  row('on_xend_start', 'text', 'ignore', 'ignore or start'),
  row('on_xend_stop', 'text', 'ignore', 'ignore, shutdown or suspend'),
  row('target', 'int', 0, 'domain that this one serves'),
  row('hap', 'int', 1, 'hardware-assisted paging'),
  row('nestedhvm', 'int', 0, 'nested virtualisation'),
  row('s3_integrity', 'int', 1, 'check memory after S3'),
  row('oos', 'int', 1, 'out-of-sync shadow page tables'),
  row('cpuid', 'list', [], 'LEAF[,SUB]:eax=VAL,...'),
  row('cpuid_check', 'list', [], 'LEAF[,SUB]:eax=VAL,...'),
  row('machine_address_size', 'int', null, 'bits of machine addresses'),
  row('suppress_spurious_page_faults', 'yes', null, 'do not pass spurious page faults on'),
  row('pool', 'text', null, 'CPU pool'),
  row('pci_msitranslate', 'int', 1, 'translate MSI to INTx'),
  row('pci_power_mgmt', 'int', 0, 'power management of PCI devices'),
  row('xen_platform_pci', 'int', 1, 'the Xen platform device'),
  row('superpages', 'int', 0, 'use superpages'),
];

export const DEFAULT_PATH = '.:/etc/xen';

/** Options of every command that takes a configuration file: about help, and about the file. */
export const helpRows: readonly OptionRow[] = [
  { name: 'help', short: 'h', long: 'help', doc: 'Print this help.' },
  { name: 'help_config', long: 'help_config', doc: 'Print the variables that a configuration file may set.' },
];
export const fileRows: readonly OptionRow[] = [
  { name: 'path', long: 'path', takesValue: true, value: 'PATH', doc: 'Folders to look for configuration files in.' },
  {
    name: 'defconfig',
    short: 'f',
    long: 'defconfig',
    takesValue: true,
    value: 'FILE',
    doc: 'Configuration file in Python.',
  },
  { name: 'config', short: 'F', long: 'config', takesValue: true, value: 'FILE', doc: 'Configuration file in SXP.' },
  { name: 'dryrun', short: 'n', long: 'dryrun', doc: 'Print the configuration as SXP and create nothing.' },
];

export const optionRows: readonly OptionRow[] = [
  ...helpRows,
  { name: 'quiet', short: 'q', long: 'quiet', doc: 'Say less.' },
  ...fileRows,
  { name: 'xmldryrun', short: 'x', long: 'xmldryrun', doc: 'Print the configuration as XML and create nothing.' },
  { name: 'skipdtd', short: 's', long: 'skipdtd', doc: 'Do not check XML against its DTD.' },
  { name: 'paused', short: 'p', long: 'paused', doc: 'Leave the domain paused.' },
  { name: 'console', short: 'c', long: 'console_autoconnect', doc: 'Attach to the console of the domain.' },
  { name: 'viewer', long: 'vncviewer', doc: 'Open a VNC viewer on the domain.' },
  { name: 'viewer', long: 'vncviewer-autopass', doc: 'Hand the VNC password to the viewer.' },
];
