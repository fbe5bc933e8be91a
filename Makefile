# dmshook - webhooks from a database. README.md has the two commands: make demo, make test.

# /usr/bin/pg_config of Debian runs the newest version installed: name one.
PG_CONFIG   ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)
PGXS        := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

EXTENSION    = dmshook
EXTVERSION   = 0.1
MODULE_big   = dmshook
OBJS         = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
SQL_PARTS    = $(sort $(wildcard src/sql/*.sql))
DATA_built   = dmshook--$(EXTVERSION).sql
PGFILEDESC   = "dmshook - webhooks from a database"

REGRESS      = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))

# Without the server's files only these work: they install them, or say what is missing.
.PHONY: test demo bench
ifeq ($(PGXS),)

.PHONY: all install installcheck clean
.DEFAULT_GOAL := all
all install installcheck clean:
	@echo "$(PG_CONFIG) does not work: install what test/packages lists, or name a PG_CONFIG." >&2; exit 1

else

PKG_CONFIG  ?= pkg-config
LIB_CFLAGS  := $(shell $(PKG_CONFIG) --cflags libcurl libssl libcrypto)
LIB_LIBS    := $(shell $(PKG_CONFIG) --libs libcurl libssl libcrypto)
# -isystem: the server's headers are not ours to warn about
PG_CPPFLAGS := -isystem $(shell $(PG_CONFIG) --includedir-server) -DDMSHOOK_VERSION='"$(EXTVERSION)"' $(LIB_CFLAGS)
# only entry points are visible; before 16 PostgreSQL left PGDLLEXPORT empty
PG_CFLAGS    = -fvisibility=hidden
PG_CPPFLAGS += -DPGDLLEXPORT='__attribute__((visibility("default")))'
# 18 has a specifier in front (pg_noreturn) instead of this one
ifneq ($(filter 18 19 20,$(shell $(PG_CONFIG) --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')),)
PG_CPPFLAGS += -D'pg_attribute_noreturn()=__attribute__((noreturn))'
endif
SHLIB_LINK   = $(LIB_LIBS)
EXTRA_CLEAN  = dmshook--*.sql tmp_install tmp_check tmp_check_* test-logs test/build output_iso

ifdef WERROR
PG_CFLAGS   += -Wall -Wextra -Werror
endif
ifdef COVERAGE
PG_CFLAGS   += --coverage -O0
SHLIB_LINK  += --coverage
endif
# test/asan; PostgreSQL's own -fwrapv would hide overflows
ifdef ASAN
PG_CFLAGS   += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -fno-wrapv -O1
SHLIB_LINK  += -fsanitize=address,undefined
endif

include $(PGXS)

# Debian's PGXS tracks no headers; the sources are few.
$(OBJS): $(wildcard src/*.h)

dmshook--$(EXTVERSION).sql: $(SQL_PARTS)
	cat $^ > $@

# The expected output is that of a server which has the library and sends nothing: test/server.conf.
.PHONY: check-server
check-server:
	@test "`$(bindir)/psql -XAtc 'SHOW dmshook.dispatchers' postgres 2>&1`" = 0 || { echo "make installcheck needs a running server with shared_preload_libraries = 'dmshook' and dmshook.dispatchers = 0; make test starts one of its own" >&2; exit 1; }
installcheck: check-server

endif

# Each stages the extension in tmp_install and uses throw-away clusters; as root or not.
# TESTS='regress tap' REGRESS=capture_vehicle TAP=test/t/010_wire.pl BENCH=latency SIZE=10000 KEEP=1
test:
	@PG_CONFIG='$(PG_CONFIG)' test/run-tests
demo:
	@PG_CONFIG='$(PG_CONFIG)' test/demo/demo
bench:
	@PG_CONFIG='$(PG_CONFIG)' test/bench/bench

# Beyond the suite; test/README.md has a table of them.
.PHONY: soak test-majors test-asan test-cassert test-valgrind test-mutations coverage fuzz lint
soak:
	@PG_CONFIG='$(PG_CONFIG)' test/soak/run
test-majors:
	@PG_CONFIG='$(PG_CONFIG)' test/majors
test-asan:
	@PG_CONFIG='$(PG_CONFIG)' test/asan
test-cassert:
	@PG_CONFIG='$(PG_CONFIG)' test/cassert
test-mutations:
	@PG_CONFIG='$(PG_CONFIG)' test/mutations
test-valgrind:
	@PG_CONFIG='$(PG_CONFIG)' test/valgrind
coverage:
	@PG_CONFIG='$(PG_CONFIG)' test/coverage
lint:
	@PG_CONFIG='$(PG_CONFIG)' test/lint
fuzz:
	@PG_CONFIG='$(PG_CONFIG)' test/fuzz/run
