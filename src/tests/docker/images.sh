# shellcheck shell=bash
# Stand-ins for the base images, where none can be pulled: Debian 13 with this machine's Rust, a runtime without a shell, PostgreSQL 18.

# import NAME DIRECTORY CHANGE…
import() {
	local name=$1 directory=$2 change changes=()
	shift 2
	for change; do changes+=(--change "$change"); done
	tar --create --directory="$directory" --exclude=./dev --exclude=./proc --exclude=./sys . |
		inside docker import "${changes[@]}" - "$name" >/dev/null
}

# The engine's data is empty: each image store needs the base images.
make_images() {
	local kind
	for kind in rust runtime postgres; do
		[ -e "$work/$kind" ] || "make_${kind}_directory" "$work/$kind"
	done
	# Optimized builds take many minutes, and make no difference to Docker.
	import stand-in/rust "$work/rust" 'ENV PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin' 'ENV CARGO_HOME=/usr/local/cargo' \
		'ENV CARGO_PROFILE_RELEASE_LTO=off' 'ENV CARGO_PROFILE_RELEASE_OPT_LEVEL=0' 'ENV CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16'
	import stand-in/runtime "$work/runtime" 'USER 65532' 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
	import stand-in/postgres "$work/postgres" 'ENV PATH=/usr/local/bin:/opt/postgresql/bin:/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		'ENV PGDATA=/var/lib/postgresql/18/docker' 'VOLUME /var/lib/postgresql' 'STOPSIGNAL SIGINT' 'EXPOSE 5432' \
		'ENTRYPOINT ["docker-entrypoint.sh"]'
}

# The image contains the sources of the crates, so that a build asks no registry.
make_rust_directory() {
	local toolchain
	toolchain=$(cd "$repository" && rustc --print sysroot)
	cp --archive --link "$cache/base" "$1"
	mkdir "$1/usr/local/cargo" "$1/usr/local/rust"
	cp --archive "$toolchain/bin" "$toolchain/lib" "$1/usr/local/rust/"
	cp --archive --link "$cache"/crates-"$(sha256sum "$repository/Cargo.lock" | cut -c 1-16)" "$1/usr/local/cargo/vendor"
	cat > "$1/usr/local/cargo/config.toml" <<-'CONFIG'
		[source.crates-io]
		replace-with = "vendored"
		[source.vendored]
		directory = "/usr/local/cargo/vendor"
	CONFIG
}

# Like distroless/cc: libc, libgcc, root certificates, a user, and no shell.
make_runtime_directory() {
	local base=$cache/base libraries=usr/lib/x86_64-linux-gnu library
	mkdir -p "$1/$libraries" "$1/usr/lib64" "$1/etc/ssl/certs" "$1/tmp"
	ln -s usr/lib "$1/lib"
	ln -s usr/lib64 "$1/lib64"
	cp --archive "$base/usr/lib64/." "$1/usr/lib64/"
	for library in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libgcc_s.so.1; do
		cp --dereference "$base/$libraries/$library" "$1/$libraries/"
	done
	cp --dereference "$base/etc/ssl/certs/ca-certificates.crt" "$1/etc/ssl/certs/"
	printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' > "$1/etc/passwd"
	printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' > "$1/etc/group"
	chmod 1777 "$1/tmp"
}

make_postgres_directory() {
	cp --archive "$cache/base" "$1"
	cp --archive "$cache/postgres-$postgres_version" "$1/opt/postgresql"
	cp "$here/postgres_entrypoint.sh" "$1/usr/local/bin/docker-entrypoint.sh"
	echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >> "$1/etc/passwd"
	echo 'postgres:x:999:' >> "$1/etc/group"
	install --directory --owner=999 --group=999 --mode=3777 "$1/run/postgresql" "$1/var/lib/postgresql"
}

# A copy of the tree, because some checks change it. The directory itself is kept, because it is mounted in the machine.
check_out() {
	mkdir -p "$work/checkout"
	find "$work/checkout" -mindepth 1 -delete
	tar --create --directory="$repository" --exclude=./target --exclude=./.git --exclude=./fuzz/target --exclude=./data --exclude='./.env' --exclude='./.env.dev' . |
		tar --extract --directory="$work/checkout"
}
