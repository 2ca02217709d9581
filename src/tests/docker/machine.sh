#!/bin/sh
# machine.sh ROOT WORK CHECKOUT: the first process in new mount, network and process namespaces. Puts together the file system that the
# engine sees, makes it the root, and stays as the one that all its processes end with.
set -eu
root=$1
work=$2
checkout=$3

# What /proc shows here is still the world outside: this is what it calls us.
read -r pid _ < /proc/self/stat

mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/mnt"
mkdir "$root/mnt/work" "$root/mnt/checkout" "$root/mnt/outside" "$root/run/home"
mount --bind "$work" "$root/mnt/work"
mount --bind "$checkout" "$root/mnt/checkout"
ip link set lo up

# Not chroot: who enters a container's mounts comes out at the root of its namespace, and that would be the world's.
cd "$root"
pivot_root . mnt/outside
cd /
umount --lazy /mnt/outside
echo "$pid" > /mnt/work/machine.pid
# Collects what its children leave behind; it came with the engine.
exec docker-init -s -- sleep infinity
