# dmshook - webhooks from a database. README.md has the two commands: make demo, make test.

# /usr/bin/pg_config of Debian runs the newest version installed: name one.
PG_CONFIG   ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)

EXTENSION    = dmshook
EXTVERSION   = 0.1
MODULE_big   = dmshook
OBJS         = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
SQL_PARTS    = $(sort $(wildcard src/sql/*.sql))
DATA_built   = dmshook--$(EXTVERSION).sql
PGFILEDESC   = "dmshook - webhooks from a database"

REGRESS      = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
TAP_TESTS    = 1
PROVE_TESTS  = test/t/*.pl

PKG_CONFIG  ?= pkg-config
# -isystem: the server's headers are not ours to warn about
PG_CPPFLAGS  = -isystem $(shell $(PG_CONFIG) --includedir-server) -DDMSHOOK_VERSION='"$(EXTVERSION)"' $(shell $(PKG_CONFIG) --cflags libcurl libcrypto)
# only entry points are visible; before 16 PostgreSQL left PGDLLEXPORT empty
PG_CFLAGS    = -fvisibility=hidden
PG_CPPFLAGS += -DPGDLLEXPORT='__attribute__((visibility("default")))'
SHLIB_LINK   = $(shell $(PKG_CONFIG) --libs libcurl libcrypto)
EXTRA_CLEAN  = dmshook--*.sql

ifdef WERROR
PG_CFLAGS   += -Wall -Wextra -Werror
endif
ifdef COVERAGE
PG_CFLAGS   += --coverage -O0
SHLIB_LINK  += --coverage
endif

PGXS        := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

dmshook--$(EXTVERSION).sql: $(SQL_PARTS)
	cat $^ > $@
