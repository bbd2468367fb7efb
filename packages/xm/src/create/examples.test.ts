/** Configuration files of the shapes that people have in /etc/xen, down to the SXP that xend would get. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runXm } from '../cli.ts';
import { inWorld, type Outcome } from '../testing/fake-world.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  for (const name of ['vmlinuz', 'initrd', 'pv-grub.gz']) writeFileSync(join(directory, name), '');
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

const dryRun = (text: string, ...words: string[]): Promise<Outcome> => {
  writeFileSync(join(directory, 'example'), text);
  return inWorld((world) => runXm(['create', '-qn', 'example', ...words], world), {
    env: { HOME: '/home/me' },
    cwd: directory,
  });
};

const CHECKED = `# needs vmid=N
def vmid_check(var, val):
    val = int(val)
    if val <= 0:
        raise ValueError
    return val

xm_vars.var('vmid',
            use="Which machine: an integer above zero.",
            check=vmid_check)

xm_vars.check()

kernel = "vmlinuz"
memory = 64
name = "machine%d" % vmid
`;

describe('files of the usual shapes', () => {
  it.each<[string, string, readonly string[], string]>([
    [
      'a small one',
      'kernel = "vmlinuz"\nmemory = 48\nname = "small"\n# vcpus = 2\nvif = [ \'\' ]\ndisk = [ \'phy:vg0/small,sda1,w\' ]\nroot = "/dev/sda1 ro"\nextra = "3"\n#on_crash = \'restart\'\n',
      [],
      '(image (linux (kernel DIR/vmlinuz) (root \'/dev/sda1 ro\') (videoram 4) (args 3) (tsc_mode 0) (nomigrate 0))) (s3_integrity 1) (device (vbd (uname phy:vg0/small) (dev sda1) (mode w))) (device (vif))',
    ],
    [
      'one with a checked variable',
      `${CHECKED}vcpus = 4 # four of them\ndisk = [ 'phy:sdb%d,sda1,w' % (7+vmid),\n         'phy:sdb6,sda6,r' ]\nextra = "3 machine=%d usr=/dev/sda6" % vmid\n`,
      ['vmid=2'],
      '(vcpus 4) (oos 1) (image (linux (kernel DIR/vmlinuz) (videoram 4) (args \'3 machine=2 usr=/dev/sda6\') (tsc_mode 0) (nomigrate 0))) (s3_integrity 1) (device (vbd (uname phy:sdb9) (dev sda1) (mode w))) (device (vbd (uname phy:sdb6) (dev sda6) (mode r)))',
    ],
    [
      'one with an address for each',
      `${CHECKED}cpus = "%s" % vmid\nvif = [ 'ip=10.0.%d.1/24' % (vmid)]\ndhcp="off"\nip="10.0.%d.2" % (vmid)\nnetmask="255.255.255.0"\ngateway="10.0.%d.1" % (vmid)\nhostname= "m-%d.example" % vmid\n`,
      ['vmid=3'],
      '(vcpus 1) (cpus 3) (oos 1) (image (linux (kernel DIR/vmlinuz) (ip 10.0.3.2:127.0.255.255:10.0.3.1:255.255.255.0:m-3.example:eth0:off) (videoram 4) (tsc_mode 0) (nomigrate 0))) (s3_integrity 1) (device (vif (ip 10.0.3.1/24)))',
    ],
    [
      'a fully virtual one',
      "import os, re\narch = os.uname()[4]\nif re.search('64', arch):\n    libdir = 'lib64'\nelse:\n    libdir = 'lib'\nkernel = \"hvmloader\"\nbuilder='hvm'\nmemory = 128\nname = \"full\"\nvif = [ 'type=ioemu, bridge=xenbr0' ]\ndisk = [ 'file:/img/a.img,hda,w', ',hdc:cdrom,r' ]\ndevice_model = 'qemu-dm'\nboot=\"d\"\nsdl=0\nvnc=1\nvncpasswd=''\nstdvga=0\nserial='pty'\n",
      [],
      '(device (vbd (uname file:/img/a.img) (dev hda) (mode w))) (device (vbd (uname \'\') (dev hdc:cdrom) (mode r))) (device (vif (bridge xenbr0) (type ioemu)))',
    ],
    [
      'one for Itanium',
      "import os, re\nkernel = 'hvmloader'\nbuilder='hvm'\nmemory = 1024\nname = 'vti'\nvhpt = 23\ndisk = [ 'file:/img/vti.img,hda,w' ]\ndevice_model = '/usr/' + os.path.join('lib', 'xen', 'bin', 'qemu-dm')\nnographic=0\n",
      [],
      '(xen_platform_pci 1) (memory_sharing 0) (vhpt 23) (tsc_mode 0) (nomigrate 0)',
    ],
    [
      'a boot loader as kernel',
      'kernel = "pv-grub.gz"\nextra = "(hd0,0)/boot/grub/menu.lst"\nmemory = 128\nname = "grub"\nvif = [ \'\' ]\ndisk = [ \'phy:hda1,hda1,w\' ]\n',
      [],
      '(image (linux (kernel DIR/pv-grub.gz) (videoram 4) (args \'(hd0,0)/boot/grub/menu.lst\') (tsc_mode 0) (nomigrate 0)))',
    ],
    [
      'a disk over the network',
      'kernel = "vmlinuz"\nramdisk = "initrd"\nmemory = 128\nname = "net"\ndisk = [ \'nbd:192.0.2.1 20004,hda1,w\' ]\ndhcp = "dhcp"\nhostname= "net"\n',
      [],
      '(kernel DIR/vmlinuz) (ramdisk DIR/initrd) (ip :127.0.255.255:::net:eth0:dhcp)',
    ],
    [
      'loops and comprehensions',
      "kernel = 'vmlinuz'\nname = 'l'\ndisk = []\nfor i, mode in [(0, 'w'), (1, 'r')]:\n  disk.append('phy:vg/d%d,xvd%s,%s' % (i, chr(ord('a') + i), mode))\nvif = ['mac=00:16:3e:00:00:%02x' % (n * 2) for n in range(1, 3)]\nextra = ' '.join(map(lambda c: 'console=' + c, ['hvc0', 'tty0']))\n",
      [],
      '(device (vbd (uname phy:vg/d0) (dev xvda) (mode w))) (device (vbd (uname phy:vg/d1) (dev xvdb) (mode r))) (device (vif (mac 00:16:3e:00:00:02))) (device (vif (mac 00:16:3e:00:00:04)))',
    ],
  ])('%s', async (_name, text, words, expected) => {
    const { code, out, err } = await dryRun(text, ...words);
    expect([code, err]).toEqual([0, '']);
    // On one line, so that where the lines break does not matter here.
    const flat = out.replace(/\n\s*/g, ' ').replaceAll(' )', ')');
    expect(flat).toContain(expected.replaceAll('DIR', directory));
  }); // prettier-ignore

  it.each<[string, readonly string[], string]>([
    [CHECKED, [], 'Errors were found at line 12 while processing ./example:\n\txm_vars.check()\nvmid - a number is required, not NoneType'],
    [CHECKED, ['vmid=-1'], 'Errors were found at line 12 while processing ./example:\n\txm_vars.check()\nvmid - ValueError'],
    ['import socket\n', [], 'Errors were found at line 1 while processing ./example:\n\timport socket\nimport of socket is not supported (os, os.path, sys, string and re are)'],
    ["kernel = 'vmlinuz'\nos.system('id')\n", [], "Errors were found at line 2 while processing ./example:\n\tos.system('id')\nos.system is not supported"],
    ['while 1:\n  pass\n', [], 'Errors were found at line 1 while processing ./example:\n\twhile 1:\nthe file takes too long to evaluate'],
    ["a = 'a' * 10**9\n", [], "Errors were found at line 1 while processing ./example:\n\ta = 'a' * 10**9\nvalue too long"],
    ['vscsi = ["/dev/sdz,0:0:0:0"]\n', [], 'Cannot find device "/dev/sdz"'],
    ['vscsi = ["/dev/sdz,0:0"]\n', [], 'vscsi syntax error "0:0"'],
    ['vusb = ["usbver=3"]\n', [], 'Invalid vusb option: usbver'],
    ['pci = ["1:2"]\n', [], 'Failed to parse pci device: 1:2'],
    ['vif2 = ["colour=red"]\n', [], 'Invalid vif2 option: colour'],
    ['cpuid = ["1:ecx=1"]\n', [], 'cpuid: We should specify all the bits of the register ecx for input 1\n'],
    ["access_control = ['policy=p,label=l']\n", [], 'Security policy (p) incompatible with enforced policy ().'],
  ])('%j %j is refused', async (text, words, message) => {
    expect(await dryRun(text, ...words)).toEqual({ code: 1, out: '', err: `Error: ${message}\n`, ran: [] });
  }); // prettier-ignore

  it('shows dicts in the order of Python 2', async () => {
    const { out } = await dryRun(
      "d = {'b': 1, 'a': 2, 'disk': 3, 'xvda': 4, 'vif': 5, 'zz': 6, 'q': 7}\nd['memory'] = 8\nextra = ','.join(d.keys())\nname = str({3: 1, 'x': 2, 1: 3})\n",
    );
    expect(out).toContain("(args 'a,b,vif,q,zz,memory,disk,xvda')");
    expect(out).toContain('(name "{\'x\': 2, 3: 1, 1: 3}")');
  });
});
