/*
 * transport_settings.c - what dmshook.max_connections, ca_file, allowed_networks, allowed_ports
 * and allow_http mean to the connections that there are.
 *
 * Runs in the dispatcher, at its start and after SIGHUP, never within a callback of
 * curl. A copy of each is kept: callbacks and handles go by the copies, and the
 * comparison with them says what has changed.
 */
#include "postgres.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "settings.h"
#include "transport_private.h"

/* Descriptors that the rest of the process may need. */
#define OTHER_FILES		256

/* what was in force at the last look: dmshook_transport_reload() compares */
static char *ca_file = NULL;
static struct stat ca_stat;

TransportSettings transport_settings;

static void limit_connections(void);
static void copy_settings(void);
static bool ca_file_changed(void);
static void copy_ca_file(void);
static const char *find_ca_file(void);
static void stat_ca_file(const char *path, struct stat *result);

void
transport_settings_init(void)
{
	copy_settings();
	limit_connections();
}

void
dmshook_transport_reload(void)
{
	if (strcmp(transport_settings.allowed_networks, dmshook_allowed_networks) != 0 ||
		strcmp(transport_settings.allowed_ports, dmshook_allowed_ports) != 0 ||
		transport_settings.allow_http != dmshook_allow_http || ca_file_changed() || transport_egress_changed())
		copy_settings();
	limit_connections();
}

/*
 * dmshook.max_connections, but never more than there are descriptors for: a
 * connection has one, two while two addresses of a name are tried. The limit of the
 * process is raised where that is allowed.
 */
static void
limit_connections(void)
{
	struct rlimit limit;
	rlim_t		need = (rlim_t) dmshook_max_connections * 2 + OTHER_FILES + (rlim_t) max_files_per_process;

	transport_settings.connections = dmshook_max_connections;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < need)
	{
		limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? need : Min(need, limit.rlim_max);
		(void) setrlimit(RLIMIT_NOFILE, &limit);
		if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < need)
		{
			int64		most = ((int64) limit.rlim_cur - OTHER_FILES) / 4;

			transport_settings.connections = (int) Min(dmshook_max_connections, Max(8, most));
			if (transport_settings.connections < dmshook_max_connections)
				ereport(LOG,
						(errmsg("dmshook.max_connections is reduced to %d", transport_settings.connections),
						 errdetail("The process may open %ld files.", (long) limit.rlim_cur),
						 errhint("Raise the limit of open files (ulimit -n, LimitNOFILE), or lower dmshook.max_connections.")));
		}
	}
	transport_lanes_limit(transport_settings.connections);
}

/*
 * Take over the settings. Handles of an older generation are set up again when they
 * are used next; kept connections are looked at by before_request() until none
 * of those can be left.
 */
static void
copy_settings(void)
{
	TransportSettings *s = &transport_settings;
	char	   *networks = strdup(dmshook_allowed_networks);
	char	   *ports = strdup(dmshook_allowed_ports);

	if (networks == NULL || ports == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (s->generation > 0 && (strcmp(networks, s->allowed_networks) != 0 || strcmp(ports, s->allowed_ports) != 0))
		s->recheck_until = transport_now() + INT64CONST(1000000) * (TRANSPORT_MAX_CONNECTION_LIFE + 60);
	free(s->allowed_networks);
	free(s->allowed_ports);
	s->allowed_networks = networks;
	s->allowed_ports = ports;
	s->allow_http = dmshook_allow_http;
	if (transport_egress_changed() && transport_egress_load())
	{
		/* no connection from the old source is used again: see transport_egress.c */
		copy_ca_file();
		transport_lanes_close_idle();
	}
	else if (ca_file_changed())
		copy_ca_file();
	s->generation++;
}

/* Another file, or another content. */
static bool
ca_file_changed(void)
{
	const char *file = find_ca_file();
	struct stat now;

	stat_ca_file(file, &now);
	return ca_file == NULL || strcmp(ca_file, file) != 0 ||
		now.st_dev != ca_stat.st_dev || now.st_ino != ca_stat.st_ino || now.st_size != ca_stat.st_size ||
		now.st_mtim.tv_sec != ca_stat.st_mtim.tv_sec || now.st_mtim.tv_nsec != ca_stat.st_mtim.tv_nsec;
}

/*
 * curl reads a file of authorities once and remembers it by its name for a day; it
 * uses a connection or a TLS session again where the name is the same. So a
 * file that has changed gets another name, a longer way to the same one:
 * "/./etc/...", "/././etc/...".
 */
static void
copy_ca_file(void)
{
	static int	changes = 0;
	const char *file = find_ca_file();
	int			detours = changes++ % 16;
	char	   *copy = strdup(file);
	char	   *path = file[0] == '\0' ? NULL : malloc(strlen(file) + (size_t) detours * 2 + 1);

	if (copy == NULL || (path == NULL && file[0] != '\0'))
	{
		free(copy);
		free(path);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	if (path != NULL)
	{
		for (int i = 0; i < detours; i++)
			memcpy(path + 2 * i, file[0] == '/' ? "/." : "./", 2);
		strcpy(path + 2 * detours, file);
	}
	free(transport_settings.ca_path);
	free(ca_file);
	transport_settings.ca_path = path;
	ca_file = copy;
	stat_ca_file(file, &ca_stat);
}

/* dmshook.ca_file, or where the system has its bundle; "" when there is none. */
static const char *
find_ca_file(void)
{
	static const char *const usual[] = {
		"/etc/ssl/certs/ca-certificates.crt",	/* Debian, Alpine */
		"/etc/pki/tls/certs/ca-bundle.crt", /* Red Hat */
		"/etc/ssl/ca-bundle.pem",	/* SUSE */
		"/etc/ssl/cert.pem"
	};
	curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);

	if (dmshook_ca_file != NULL && dmshook_ca_file[0] != '\0')
		return dmshook_ca_file;
	if (info->age >= CURLVERSION_SEVENTH && info->cainfo != NULL && access(info->cainfo, R_OK) == 0)
		return info->cainfo;
	for (size_t i = 0; i < lengthof(usual); i++)
	{
		if (access(usual[i], R_OK) == 0)
			return usual[i];
	}
	return "";
}

static void
stat_ca_file(const char *path, struct stat *result)
{
	memset(result, 0, sizeof(*result));
	if (path[0] != '\0')
		(void) stat(path, result);
}
