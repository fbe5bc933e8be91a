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
	# tracked and untracked, not ignored; a deleted one is no error
	(cd "$top" && git -c safe.directory='*' ls-files -coz --exclude-standard |
		while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done |
		tar --null -T - -cf -) | tar -C "$work/src" -xf -
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

# Build the extension and put it beside a private copy of the server's files.
# Sets pgbin, the staged programs' directory, and points PG_CONFIG at the staged server.
stage_extension() {
	local bindir pkglibdir sharedir
	bindir=$("$PG_CONFIG" --bindir) pkglibdir=$("$PG_CONFIG" --pkglibdir) sharedir=$("$PG_CONFIG" --sharedir)
	make -s -C "$top" -j2 WERROR=1 with_llvm=no ${COVERAGE:+COVERAGE=1} PG_CONFIG="$PG_CONFIG" all || return 1
	rm -rf "$stage"
	mkdir -p "$stage$bindir" "$stage$pkglibdir" "$stage$sharedir"
	cp -a "$bindir/." "$stage$bindir/"               # real files: the server resolves links
	cp -as "$pkglibdir/." "$stage$pkglibdir/"
	cp -as "$sharedir/." "$stage$sharedir/"
	make -s -C "$top" WERROR=1 with_llvm=no ${COVERAGE:+COVERAGE=1} PG_CONFIG="$PG_CONFIG" DESTDIR="$stage" install || return 1
	use_staged
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
	for try in 1 2 3; do
		cp "$top/test/receiver/package.json" "$lock" "$build/"
		if (cd "$build" && npm_config_cache="$build/npm-cache" npm_config_update_notifier=false \
			npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
			rm -rf "$build/npm-cache"
			return 0
		fi
	done
	rm -f "$build/package-lock.json"
	tail -5 "$log" >&2
	return 1
}
