#!/bin/sh
# What udhcpc calls: sets the address, the route and the name server that it was given.
case $1 in
bound | renew)
  ip addr flush dev "$interface"
  ip addr add "$ip/${mask:-24}" dev "$interface"
  ip link set "$interface" up
  for each in $router; do ip route add default via "$each" dev "$interface"; done
  for each in $dns; do echo "nameserver $each"; done >/etc/resolv.conf
  echo "dhcp: address $ip router $router dns $dns"
  ;;
esac
