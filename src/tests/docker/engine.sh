# shellcheck shell=bash
# The machine and its engine: started, stopped, and killed. Every data directory, socket and network is the machine's own; only
# control groups are shared with the host, so they have a parent with a name of its own, which is removed at the end.

cgroup=fast-ingest-test-$$

# enter COMMAND…: runs a command in the machine, with nothing of this process's environment.
enter() {
	nsenter --target "$machine" --mount --net --pid --root --wd -- env --ignore-environment --chdir=/mnt/checkout \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/home DOCKER_HOST=unix:///run/docker.sock "$@"
}

# Like `enter`, for commands that end by themselves or are ended.
inside() {
	enter timeout 900 "$@"
}

# compose ARGUMENTS…, with the stand-ins as base images. Further variables are in `variables`.
variables=()
compose() {
	inside env RUST_IMAGE=stand-in/rust RUNTIME_IMAGE=stand-in/runtime POSTGRES_IMAGE=stand-in/postgres "${variables[@]}" \
		docker compose "$@"
}

start_machine() {
	mkdir -p "$work/$store"
	rm -f "$work/machine.pid"
	setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child=KILL \
		"$here/machine.sh" "$cache/engine-$engine_suite" "$work" "$work/checkout" 2>> "$work/machine.log" &
	holder=$!
	within 10 test -s "$work/machine.pid" >/dev/null || skip "namespaces for an engine could not be made"
	machine=$(cat "$work/machine.pid")
	within 10 inside true >/dev/null 2>&1 || skip "namespaces for an engine could not be entered"
}

# Everything in the machine ends at once, as in a power cut, except that the kernel still writes its cached pages to the disk.
kill_machine() {
	kill -KILL "$machine" 2>/dev/null || true
	wait "$holder" 2>/dev/null || true
}

stop_machine() {
	[ -z "${machine:-}" ] || kill_machine
	machine=
	rm -rf "${work:?}/${store:?}"
	find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
}

# Starts the engine on the current image store.
start_engine() {
	local feature=false
	[ "$store" != containerd ] || feature=true
	inside sh -c "echo '{\"features\": {\"containerd-snapshotter\": $feature}}' > /run/daemon.json"
	enter dockerd --config-file /run/daemon.json \
		--data-root "/mnt/work/$store" --exec-root /run/docker --pidfile /run/docker.pid --host unix:///run/docker.sock \
		--cgroup-parent "/$cgroup" --exec-opt native.cgroupdriver=cgroupfs >> "$work/engine.log" 2>&1 &
	engine=$!
	within 60 engine_answers >/dev/null
}

engine_answers() {
	inside docker version >/dev/null 2>&1
}

# end_engine SIGNAL: TERM for an orderly stop, KILL for a crash, which leaves the containers' processes without an engine.
end_engine() {
	inside sh -c "kill -$1 \$(cat /run/docker.pid)"
	wait "$engine" 2>/dev/null || true
}
