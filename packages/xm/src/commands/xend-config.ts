/**
 * xm info --config: xend's configuration as this machine has it (xm reads the file itself, as Xen 4.4's does), among what
 * holds where the file says nothing. The names of the defaults are those of 4.4's `XendOptions`, in their order.
 */
import { readFileSync } from 'node:fs';
import { isList, parseAllSxp, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import type { World } from '../world.ts';

const DEFAULT_FILE = '/etc/xen/xend-config.sxp';
const FILE_VARIABLE = 'XEND_CONFIG';

/** The defaults before the place of the file's settings, which stand under the name `config`. */
const BEFORE: readonly (readonly [string, Sxp])[] = [['block_script_dir', '/etc/xen/scripts']];

const AFTER: readonly (readonly [string, Sxp])[] = [
  ['device_create_timeout_default', 100],
  ['device_destroy_timeout_default', 100],
  ['dom0_min_mem_default', 0],
  ['dom0_vcpus_default', 0],
  ['external_migration_tool_default', ''],
  ['logfile_default', '/var/log/xen/xend.log'],
  ['loglevel_default', 'DEBUG'],
  ['network_script_dir', '/etc/xen/scripts'],
  ['pci_dev_assign_strict_check_default', 'True'],
  ['qemu_dm_logrotate_count', 10],
  ['reserved_memory_default', 0],
  ['vif_script', 'vif-bridge'],
  ['vncpasswd_default', 'None'],
  ['xen_api_server_default', [['unix']]],
  ['xend_address_default', ''],
  ['xend_domains_path_default', '/var/lib/xend/domains'],
  ['xend_http_server_default', 'no'],
  ['xend_port_default', 8000],
  ['xend_pscsi_device_mask', ['*']],
  ['xend_relocation_address_default', ''],
  ['xend_relocation_hosts_allow_default', ''],
  ['xend_relocation_port_default', 8002],
  ['xend_relocation_server_default', 'no'],
  ['xend_relocation_ssl_port_default', 8003],
  ['xend_relocation_ssl_server_default', 'no'],
  ['xend_security_path_default', '/var/lib/xend/security'],
  ['xend_state_path_default', '/var/lib/xend/state'],
  ['xend_storage_path_default', '/var/lib/xend/storage'],
  ['xend_tcp_xmlrpc_server_address_default', 'localhost'],
  ['xend_tcp_xmlrpc_server_default', 'no'],
  ['xend_tcp_xmlrpc_server_port_default', 8006],
  ['xend_udev_event_server_default', 'no'],
  ['xend_unix_path_default', '/var/lib/xend/xend-socket'],
  ['xend_unix_server_default', 'no'],
  ['xend_unix_xmlrpc_server_default', 'yes'],
  ['xend_vnc_listen_default', '127.0.0.1'],
  ['xend_vnc_tls', 0],
  ['xend_vnc_x509_cert_dir', '/etc/xen/vnc'],
  ['xend_vnc_x509_verify', 0],
  ['xsm_module_default', 'dummy'],
];

/** Names and values in the order in which they are shown. Throws CommandFailed. */
export function configPairs(world: World): readonly Sxp[] {
  const file = world.env[FILE_VARIABLE] ?? DEFAULT_FILE;
  const places: readonly (readonly [string, Sxp])[] = [
    ['config_default', DEFAULT_FILE],
    ['config_path', file],
    ['config_var', FILE_VARIABLE],
  ];
  return [...BEFORE, ...fileSettings(world, file), ...places, ...AFTER];
}

/** The settings in the order of the file. */
function fileSettings(world: World, file: string): readonly Sxp[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    world.err(`xend [ERROR] Config file does not exist: ${file}\n`);
    return [];
  }
  try {
    return parseAllSxp(text).filter((item) => isList(item) && item.length > 0);
  } catch (error) {
    throw new CommandFailed(`${file}: ${(error as Error).message}`);
  }
}
