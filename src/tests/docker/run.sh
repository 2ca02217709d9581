#!/usr/bin/env bash
# The image and docker-compose.yml on a real engine: `make test-docker`.
#
#     STORES="containerd overlay2"  image stores to run all checks on: that of Docker 29 and Docker Desktop, and the older one
#     FIRST_BUILDS=10               builds from nothing on each of them, at the end
#     ENGINE_SUITE=forky            the Debian release that the engine comes from
#     MINUTES=45                    time limit
#
# Needs only root on Linux with Debian's package tools, and no registry of images. The engine runs in a "machine" of its own
# (machine.sh): namespaces with their own processes, network and mounts, so it does not touch an engine that is already there, and ends with
# its namespaces, whatever happens to this script. Nothing can be pulled there, so base images are stand-ins (images.sh) under names that the
# Dockerfile and docker-compose.yml take from the environment; apart from that, both files are the repository's.
#
# What is downloaded stays in target/docker, for the next time. Ends with a line of figures, and status 1 if a check failed; if no
# engine can be set up, with a line that begins "docker: skipped, " and status 0.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
cache=$repository/target/docker
stores=${STORES:-containerd overlay2}
first_builds=${FIRST_BUILDS:-10}
engine_suite=${ENGINE_SUITE:-forky}

# Runs itself again under a limit.
if [ -z "${DOCKER_TEST_IS_BOUNDED:-}" ]; then
	DOCKER_TEST_IS_BOUNDED=1 exec timeout --kill-after=30 "${MINUTES:-45}m" "$0"
fi

# If a check has run already, a missing requirement is a failure. Written to the script's own output, because `check` captures that of its command.
exec 3>&1
skip() {
	if [ "$((${passed:-0} + ${failed:-0}))" -gt 0 ]; then
		printf 'FAILED  %s\ndocker: %d passed, %d failed\n' "$1" "$passed" "$((failed + 1))" >&3
		exit 1
	fi
	echo "docker: skipped, $1; run \`make test-docker\` as root on x86-64 Debian with npm" >&3
	exit 0
}

# shellcheck source=support.sh
. "$here/support.sh"
# shellcheck source=roots.sh
. "$here/roots.sh"
# shellcheck source=engine.sh
. "$here/engine.sh"
# shellcheck source=images.sh
. "$here/images.sh"
# shellcheck source=check_start.sh
. "$here/check_start.sh"
# shellcheck source=check_crashes.sh
. "$here/check_crashes.sh"
# shellcheck source=check_refusals.sh
. "$here/check_refusals.sh"
# shellcheck source=check_builds.sh
. "$here/check_builds.sh"

[ "$(uname -s)" = Linux ] || skip "this is not Linux"
[ "$(id -u)" = 0 ] || skip "an engine of its own takes root"
find_roots
work=$(mktemp -d "${TMPDIR:-/var/tmp}/fast-ingest-docker.XXXXXX")
trap 'stop_machine; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
check_out

for store in $stores; do
	start_machine
	start_engine || skip "the engine does not start: $(tail -n 1 "$work/engine.log")"
	make_images
	check_start
	if "$starts"; then
		check_crashes
		check_refusals
		check_builds
		check_first_builds "$first_builds"
	fi
	stop_machine
done

printf 'docker: %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
