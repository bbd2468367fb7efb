#!/bin/sh
# /line NAME [PERCENT]: one line of the bench, its output with a "=" before each line. The same file runs on every machine.
NAME=$1
PERCENT=${2:-100}
BB=${BB:-/bin/busybox}
n() { v=$(($1 * PERCENT / 100)); [ $v -lt 1 ] && v=1; echo $v; }
timed() { gbench -x "$NAME" "$@"; }
line() {
  case $NAME in
  bb_sha256 | bb_md5)
    mib=$(n 16)
    timed $((mib * 1048576)) byte $BB sh -c "$BB dd if=/dev/zero bs=65536 count=$((mib * 16)) 2>/dev/null | $BB ${NAME#bb_}sum"
    ;;
  bb_awk)
    turns=$(n 20000)
    timed $turns iter $BB awk -v n=$turns 'BEGIN { for (i = 0; i < n; i++) { s = (s * 31 + i) % 65521; a[i % 97] = a[i % 97] s % 10 } print s, length(a[5]) }'
    ;;
  bb_seqsort)
    lines=$(n 20000)
    timed $lines line $BB sh -c "$BB seq 1 $lines | $BB awk '{ print (\$1 * 7919) % 100003 }' | $BB sort -n | $BB md5sum"
    ;;
  bb_gzip)
    lines=$(n 20000)
    timed $((lines * 40)) byte $BB sh -c "$BB seq -f 'the quick brown fox jumps %08g lazydogs' 1 $lines | $BB gzip -c | $BB wc -c"
    ;;
  bb_shloop)
    turns=$(n 3000)
    timed $turns iter $BB sh -c "i=0; while [ \$i -lt $turns ]; do i=\$((i + 1)); done; echo \$i"
    ;;
  bb_exec)
    turns=$(n 50)
    timed $turns exec $BB sh -c "i=0; while [ \$i -lt $turns ]; do $BB true; $BB echo -n; i=\$((i + 1)); $BB cat /proc/uptime >/dev/null; done"
    ;;
  *) gbench -s "$PERCENT" "$NAME" ;;
  esac
}
line 2>&1 | $BB sed 's/^/=/'
