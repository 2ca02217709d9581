#!/bin/sh
# machine.sh ROOT WORK CHECKOUT: the first process in new mount, network and process namespaces. Assembles the file system that the
# engine sees, makes it the root, and stays as the process with which all others end.
set -eu
root=$1
work=$2
checkout=$3

# /proc still shows the host's processes here: this is our process id there.
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

# Not chroot: a process that enters a container's mounts gets the root of its namespace, which would be the host's.
cd "$root"
pivot_root . mnt/outside
cd /
umount --lazy /mnt/outside
echo "$pid" > /mnt/work/machine.pid
# Reaps orphaned processes; this program came with the engine.
exec docker-init -s -- sleep infinity
