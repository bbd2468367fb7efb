#!/bin/sh
# /files make|check DEVICE: an ext4 file system with files of many sizes. `make` ends with the checksum of all checksums, `check`
# gives the same where every file is as it was and the file system is whole.
set -e
case $1 in
make)
  /sbin/mke2fs -t ext4 -q -F "$2"
  mount -t ext4 "$2" /mnt
  cd /mnt
  i=0
  while [ $i -lt 40 ]; do
    mkdir -p d$((i % 7))
    dd if=/dev/urandom of=d$((i % 7))/f$i bs=$((i * 613 + 1)) count=$((i % 9 * 5 + 1)) 2>/dev/null
    i=$((i + 1))
  done
  # Some files go again, others grow: blocks are used twice.
  rm d1/f8 d2/f16
  dd if=/dev/urandom bs=65536 count=40 2>/dev/null >>d3/f3
  find . -type f | sort | xargs sha256sum >/tmp/sums
  cp /tmp/sums sums
  cd /
  umount /mnt
  ;;
check)
  e2fsck -fn "$2" >/tmp/fsck 2>&1 || cat /tmp/fsck
  mount -t ext4 -o ro "$2" /mnt
  cd /mnt
  sha256sum -c sums >/tmp/checked || grep -v OK /tmp/checked
  cp sums /tmp/sums
  cd /
  umount /mnt
  ;;
esac
echo "$(wc -l </tmp/sums) files, sum $(sha256sum </tmp/sums | cut -c1-32)"
