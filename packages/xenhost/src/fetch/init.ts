/**
 * /init of the fetched guest: mounts, loads the drivers that the devices ask for, says READY, runs what the kernel command
 * line asks for, then a shell on the console. Words it knows: `run=COMMAND,WITH,COMMAS` `poweroff` `reboot` `nomods`.
 */
export const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin:/sbin HOME=/root PS1='guest# '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /tmp
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
echo 4 >/proc/sys/kernel/printk
hostname guest
word() {
  for w in $(cat /proc/cmdline); do
    case $w in "$1") VALUE=; return 0 ;; "$1"=*) VALUE=\${w#*=}; return 0 ;; esac
  done
  return 1
}
if ! word nomods; then
  for f in /sys/bus/*/devices/*/modalias; do
    [ -r "$f" ] && read -r alias <"$f" && modprobe -q "$alias" 2>/dev/null
  done
fi
read -r up rest </proc/uptime
echo "GUEST-READY uptime=$up kernel=$(uname -r) cpus=$(grep -c ^processor /proc/cpuinfo)"
if word run; then sh -c "$(echo "$VALUE" | tr , ' ')"; fi
if word poweroff; then poweroff -f; fi
if word reboot; then reboot -f; fi
# A shell with job control; its end starts a new one. SIGUSR2, SIGTERM from xm shutdown come as orderly_poweroff.
while :; do setsid cttyhack sh; done
`;

/** What Linux calls when xm shutdown or xm reboot asks (orderly_poweroff, orderly_reboot). */
export const poweroffScript = '#!/bin/busybox sh\nsync\nexec /bin/busybox poweroff -f\n';
export const rebootScript = '#!/bin/busybox sh\nsync\nexec /bin/busybox reboot -f\n';
