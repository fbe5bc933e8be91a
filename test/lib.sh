# Sourced by run-tests, the demo and the benches: packages, an ordinary user, a staged server.
# shellcheck shell=bash
#
# Servers do not run as root, and nothing is installed into the system's
# directories: a copy of the server's files stands under tmp_install, with the
# extension among them.  Nothing outside the tree is written but what a package
# or a program keeps in /tmp while it runs.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage=$top/tmp_install
build=$top/test/build
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS
unset PGHOST PGPORT PGDATABASE PGUSER PGPASSWORD PGSERVICE PGOPTIONS PGDATA
export LC_ALL=C TZ=UTC

# Install (root) or name (not root) what is missing; find pg_config.
need_packages() {
	if [ -z "${DMSHOOK_PACKAGES_SEEN:-}" ]; then
		"$top/test/packages" --install || exit 1
		export DMSHOOK_PACKAGES_SEEN=1
	fi
	local debian=/usr/lib/postgresql/15/bin/pg_config
	if [ "${PG_CONFIG:-pg_config}" = pg_config ] && [ -x "$debian" ]; then
		PG_CONFIG=$debian
	fi
	export PG_CONFIG=${PG_CONFIG:-pg_config}
}

# As root: run the calling script again as an ordinary user, and exit as it does.
# 1. In a user namespace: same tree, same files, but the server sees a uid that is not 0.
# 2. Where that is not allowed (chroot, container): in a copy of the tree, as that user.
not_as_root() {
	[ "$(id -u)" = 0 ] || return 0
	local script=$1 user=${DMSHOOK_TEST_USER:-postgres} work map rc=0
	id "$user" >/dev/null 2>&1 || user=nobody
	map="--user --map-user=$(id -u "$user") --map-group=$(id -g "$user")"
	# shellcheck disable=SC2086
	if [ -z "${DMSHOOK_NO_USERNS:-}" ] && unshare $map true 2>/dev/null; then
		exec unshare $map bash "$top/$script" </dev/null
	fi
	work=$(mktemp -d /tmp/dmshook.XXXXXX)
	chmod 755 "$work"
	mkdir "$work/src"
	copy_tree "$work/src"
	chown -R "$user": "$work"
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	runuser -u "$user" -- env HOME="$work" PATH="$PATH" bash "$work/src/$script" </dev/null || rc=$?
	[ -z "${DMSHOOK_KEEP_COPY:-}" ] || trap - EXIT
	if [ -d "$work/src/test-logs" ]; then
		rm -rf "$top/test-logs"
		cp -r "$work/src/test-logs" "$top/test-logs"
		echo "logs are in $top/test-logs" >&2
	fi
	exit "$rc"
}

# copy_tree DIR: the tree's files, tracked and untracked, not ignored; a deleted one is no error.
copy_tree() {
	mkdir -p "$1"
	(cd "$top" && git -c safe.directory='*' ls-files -coz --exclude-standard |
		while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done |
		tar --null -T - -cf -) | tar -C "$1" -xf -
}

# in_copy COMMAND...: in a copy of the tree, for what is built with other flags; copy names it.
# The libraries of npm go along. What it leaves in test-logs is brought here.
in_copy() {
	local rc=0
	copy=$(mktemp -d /var/tmp/dmshook-copy.XXXXXX)
	# shellcheck disable=SC2064
	trap "rm -rf '$copy'" EXIT
	chmod 755 "$copy"
	copy_tree "$copy"
	git -C "$copy" init -q   # not_as_root asks git for the files
	if [ -d "$build/node_modules" ]; then
		mkdir -p "$copy/test/build"
		cp -a "$build/node_modules" "$build/package-lock.json" "$copy/test/build/"
	fi
	(cd "$copy" && "$@") </dev/null || rc=$?
	if [ -d "$copy/test-logs" ]; then
		rm -rf "$top/test-logs"
		cp -r "$copy/test-logs" "$top/test-logs"
	fi
	return "$rc"
}

# One run at a time in a tree: they share what is built and staged.
lock_tree() {
	mkdir -p "$build"
	exec {lock_fd}>"$build/lock"
	flock -n "$lock_fd" && return
	echo "waiting for another run in $top" >&2
	flock -w 1200 "$lock_fd" || { echo "another run in $top does not end" >&2; exit 1; }
}

# Build the extension and put it beside a private copy of the server's files.
# Sets pgbin, the staged programs' directory, and points PG_CONFIG at the staged server.
stage_extension() {
	local bindir pkglibdir sharedir includedir
	lock_tree || return 1
	bindir=$("$PG_CONFIG" --bindir) pkglibdir=$("$PG_CONFIG" --pkglibdir) sharedir=$("$PG_CONFIG" --sharedir) includedir=$("$PG_CONFIG" --includedir)
	make -s -C "$top" -j2 WERROR=1 with_llvm=no ${COVERAGE:+COVERAGE=1} ${ASAN:+ASAN=1} PG_CONFIG="$PG_CONFIG" all || return 1
	rm -rf "$stage"
	mkdir -p "$stage$bindir" "$stage$pkglibdir" "$stage$sharedir"
	cp -a "$bindir/." "$stage$bindir/"               # real files: the server resolves links
	cp -as "$pkglibdir/." "$stage$pkglibdir/"
	cp -as "$sharedir/." "$stage$sharedir/"
	mkdir -p "$stage$(dirname "$includedir")"
	ln -sfn "$includedir" "$stage$includedir"   # programs of tests include them
	make -s -C "$top" WERROR=1 with_llvm=no ${COVERAGE:+COVERAGE=1} ${ASAN:+ASAN=1} PG_CONFIG="$PG_CONFIG" DESTDIR="$stage" install || return 1
	[ -z "${POSTGRES_WRAPPER:-}" ] || wrap_postgres "$stage$bindir"
	use_staged
}

# The staged server under a tool: POSTGRES_WRAPPER is the front of its command line.
wrap_postgres() {
	mv "$1/postgres" "$1/postgres.bin"
	printf '#!/bin/sh\nexec %s "%s/postgres.bin" "$@"\n' "$POSTGRES_WRAPPER" "$1" >"$1/postgres"
	chmod 755 "$1/postgres"
}

use_staged() {
	pgbin=$stage$("$PG_CONFIG" --bindir)
	export PG_CONFIG=$pgbin/pg_config PATH="$pgbin:$PATH"
}

# Build the programs of the tests that are not the extension: the receiver, the bare curl client.
build_programs() {
	make -s -C "$top/test" PG_CONFIG="$PG_CONFIG" all
}

# The verifiers that are not ours, from the npm registry, into test/build/node_modules.
npm_libraries() {
	local lock=$top/test/receiver/package-lock.json log=$build/npm.log try
	mkdir -p "$build"
	if cmp -s "$lock" "$build/package-lock.json" && [ -d "$build/node_modules/svix" ]; then
		return 0
	fi
	for ((try = 0; try < ${NPM_TRIES:-3}; try++)); do
		cp "$top/test/receiver/package.json" "$lock" "$build/"
		if (cd "$build" && npm_config_cache="$build/npm-cache" npm_config_update_notifier=false \
			timeout ${NPM_PATIENCE:-120} npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
			rm -rf "$build/npm-cache"
			return 0
		fi
	done
	rm -f "$build/package-lock.json"
	tail -5 "$log" >&2
	return 1
}

# A throw-away server: cluster_start NAME CONF.  Sets dir; psql finds it; it ends with the script.
cluster_start() {
	dir=$(mktemp -d "/tmp/dmshook-$1.XXXXXX")
	receivers=()
	trap cluster_end EXIT
	trap 'exit 130' INT TERM HUP
	initdb -D "$dir/data" -A trust -U postgres -E UTF8 --no-locale -N >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; return 1; }
	cat >>"$dir/data/postgresql.conf" <<C
listen_addresses = ''
unix_socket_directories = '$dir'
shared_preload_libraries = 'dmshook'
dmshook.allowed_networks = '127.0.0.0/8, ::1'
dmshook.ca_file = '$build/certs/ca.pem'
log_line_prefix = '%m [%p] %b '
$2
C
	pg_ctl -D "$dir/data" -l "$dir/server.log" -w start >"$dir/pg_ctl.log" 2>&1 </dev/null {lock_fd}>&- ||
		{ cat "$dir/pg_ctl.log" "$dir/server.log" >&2; return 1; }
	export PGHOST=$dir PGUSER=postgres PGDATABASE=postgres
}

cluster_end() {
	local pid
	[ -d "$dir" ] || return 0
	for pid in "${receivers[@]}"; do kill "$pid" 2>/dev/null; done
	pg_ctl -D "$dir/data" -m fast -w stop >/dev/null 2>&1 || kill -QUIT "$(head -1 "$dir/data/postmaster.pid")" 2>/dev/null
	rm -rf "$dir"
}

# receiver_start OPTION...: a receiver with the good certificate; sets port and control.
receiver_start() {
	local out=$dir/receiver.$RANDOM
	: >"$out"
	"$build/receiver" --cert "$build/certs/good.pem" --key "$build/certs/good.key" "$@" >"$out" 2>&1 </dev/null {lock_fd}>&- &
	receiver_pid=$!
	receivers+=("$receiver_pid")
	poll 10 'the receiver' grep -q ^control: "$out" || return 1
	port=$(sed -n 's/^port: //p' "$out") control=$(sed -n 's/^control: //p' "$out")
}

receiver_stop() {
	kill "$receiver_pid"
	wait "$receiver_pid" 2>/dev/null
	return 0
}

# control PATH: ask the receiver's control port.
control() {
	local fd
	exec {fd}<>"/dev/tcp/127.0.0.1/$control"
	printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' "$1" >&"$fd"
	sed '1,/^\r*$/d' <&"$fd"
	exec {fd}>&-
}

# stat NAME: one of the receiver's counters, 0 when it has none.
stat() { control /stats | awk -v name="$1" '$1 == name {n = $2} END {print n + 0}'; }

# poll SECONDS WHAT COMMAND...: until it succeeds.
poll() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		if [ "$SECONDS" -gt "$end" ]; then
			echo "timed out: $what" >&2
			return 1
		fi
		sleep 0.05
	done
}

sql() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
is_true() { [ "$(sql "$1" 2>&1)" = t ]; }
