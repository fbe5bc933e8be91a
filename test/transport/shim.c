/*
 * shim.c - the little of a server that transport*.c needs, so that its test is
 * an ordinary program: settings, ereport, and a name resolution that is told what
 * to say.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>

#include "storage/fd.h"

#include "settings.h"
#include "shim.h"

bool		dmshook_allow_http = false;
char	   *dmshook_allowed_networks = NULL;
char	   *dmshook_allowed_ports = "443,8443,1024-";
char	   *dmshook_source_address = "";
char	   *dmshook_proxy = "";
char	   *dmshook_proxy_password_file = "";
char	   *dmshook_ca_file = NULL;
int			dmshook_max_connections = 64;
int			dmshook_response_limit = 16 * 1024;
int			max_files_per_process = 1000;

char		shim_moving[64] = "127.0.0.1";

static int	level;

/* An ERROR ends the test; what is only logged is shown. */
bool
errstart(int elevel, const char *domain pg_attribute_unused())
{
	level = elevel;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	fprintf(stderr, "ereport(%d) in %s, %s:%d\n", level, funcname, filename, lineno);
	if (level >= ERROR)
		exit(1);
}

int
errcode(int sqlerrcode pg_attribute_unused())
{
	return 0;
}

int
errcode_for_socket_access(void)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	fprintf(stderr, "%s\n", fmt);
	return 0;
}

int
errdetail(const char *fmt,...)
{
	fprintf(stderr, "%s\n", fmt);
	return 0;
}

int
errhint(const char *fmt,...)
{
	fprintf(stderr, "%s\n", fmt);
	return 0;
}

void
pfree(void *pointer)
{
	free(pointer);
}

char *
psprintf(const char *fmt,...)
{
	char	   *result = NULL;
	va_list		args;

	va_start(args, fmt);
	if (vasprintf(&result, fmt, args) < 0)
		abort();
	va_end(args);
	return result;
}

/*
 * Instead of the C library's, for libcurl too (the program is linked with -rdynamic).
 * Names end in .test; anything else is an address, and never asks the network.
 */
PGDLLEXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result);

static const struct
{
	const char *name;
	const char *first;			/* NULL: is not there */
	const char *second;
}			names[] =

{
	{"good.test", "127.0.0.1", NULL},
	{"private.test", "10.1.2.3", NULL},
	{"mixed.test", "10.1.2.3", "127.0.0.1"},
	{"moving.test", shim_moving, NULL},
	{"slow.test", NULL, NULL},
	{"nowhere.test", NULL, NULL},
};

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **);
	struct addrinfo numeric = *hints;
	int			rc;

	*(void **) &real = dlsym(RTLD_NEXT, "getaddrinfo");
	numeric.ai_flags |= AI_NUMERICHOST;
	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (strcmp(node, names[i].name) != 0)
			continue;
		if (strcmp(node, "slow.test") == 0)
			sleep(2);
		if (names[i].first == NULL)
			return EAI_NONAME;
		rc = real(names[i].first, service, &numeric, result);
		if (rc == 0 && names[i].second != NULL)
			rc = real(names[i].second, service, &numeric, &(*result)->ai_next);
		return rc;
	}
	return real(node, service, &numeric, result);
}
