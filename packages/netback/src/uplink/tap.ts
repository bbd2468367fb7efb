/**
 * A tap device of the machine as a bridge's uplink, where the machine lets us have one. Node cannot call ioctl(2): a helper in Perl,
 * which every Debian has, opens the device and carries its frames over a socket pair, as passt does.
 */
import type { TapConfig } from '../switch/config.ts';
import { Helper } from './helper.ts';
import type { Uplink, UplinkModules } from './passt-uplink.ts';
import { frameOfTap, vnetHeader } from './tap-frames.ts';

/**
 * Arguments: the device, then commands to run once it is there, each as words with spaces between.
 * 0x5002: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR; 0x400454ca: TUNSETIFF; 0x400454d0: TUNSETOFFLOAD; 7: TUN_F_CSUM, TSO4, TSO6 (linux/if_tun.h).
 */
const HELPER = String.raw`
use strict;
use Fcntl;
my ($device, @commands) = @ARGV;
sysopen(my $tap, '/dev/net/tun', O_RDWR | O_NONBLOCK) or die "cannot open /dev/net/tun: $!\n";
ioctl($tap, 0x400454ca, pack('a16 S x22', $device, 0x5002))
  or die "cannot have tap device $device: $!; it takes CAP_NET_ADMIN, or: ip tuntap add dev $device mode tap vnet_hdr user NAME\n";
ioctl($tap, 0x400454d0, 7) or die "no offloads on $device: $!\n";
for (@commands) { system(split ' ') == 0 or die "failed: $_\n"; }
open(my $socket, '+<&=', 3) or die "no socket on descriptor 3: $!\n";
my $bits = '';
vec($bits, fileno($tap), 1) = 1;
vec($bits, 3, 1) = 1;
my $in = '';
while (1) {
  my $ready = $bits;
  select($ready, undef, undef, undef) > 0 or next;
  if (vec($ready, 3, 1)) {
    sysread($socket, $in, 1 << 18, length $in) or exit 0;
    my $at = 0;
    while (length($in) - $at >= 4) {
      my $bytes = unpack('N', substr($in, $at, 4));
      last if length($in) - $at - 4 < $bytes;
      syswrite($tap, $in, $bytes, $at + 4);
      $at += 4 + $bytes;
    }
    substr($in, 0, $at) = '';
  }
  if (vec($ready, fileno($tap), 1)) {
    my $out = '';
    for (1 .. 64) {
      my $bytes = sysread($tap, my $frame, 1 << 17);
      last unless $bytes;
      $out .= pack('N', $bytes) . $frame;
      last if length $out > 1 << 18;
    }
    for (my $at = 0; $at < length $out;) {
      my $sent = syswrite($socket, $out, length($out) - $at, $at) or exit 0;
      $at += $sent;
    }
  }
}
`;

/** What else is done to the device: by ip(8). */
export function tapCommands({ device, address, master }: TapConfig): string[] {
  return [
    ...(master === undefined ? [] : [`ip link set dev ${device} master ${master}`]),
    ...(address === undefined ? [] : [`ip address replace ${address} dev ${device}`]),
    // Without either the device is somebody's who keeps it as it shall be.
    ...(master === undefined && address === undefined ? [] : [`ip link set dev ${device} up`]),
  ];
}

export function openTap(config: TapConfig, { bridge, log }: UplinkModules): Uplink {
  const { device } = config;
  const port = bridge.attach({
    kind: 'uplink',
    name: device,
    accepts: { checksumPartial: true, gso: new Set(['tcpv4', 'tcpv6']) },
  });
  const helper = new Helper(
    {
      name: `tap ${device} of ${bridge.name}`,
      command: 'perl',
      args: ['-e', HELPER, device, ...tapCommands(config)],
    },
    {
      log,
      frame: (bytes) => {
        const frame = frameOfTap(bytes);
        if (frame) port.send(frame);
      },
    },
  );
  port.setReceiver((frame) => {
    const header = vnetHeader(frame);
    return header !== undefined && helper.send(header, frame.bytes);
  });
  log.info({ bridge: bridge.name, device }, 'uplink through a tap device');
  return {
    get pid() {
      return helper.pid;
    },
    close: () => {
      port.close();
      return helper.close();
    },
  };
}
