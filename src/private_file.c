/*
 * private_file.c - reading a file that holds a secret: a key, a password.
 *
 * Runs in any process, outside or inside a transaction; raises no error but for
 * memory, and no sentence made here shows what is in the file. A FIFO or device in its place is
 * refused, and never waited for. Permissions are looked at on the descriptor that is
 * read, so that nobody can exchange the file between the look and the reading.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "private_file.h"

/* As PostgreSQL wants a private key: ours, and nobody else's to read; or root's, and at most a group's to read. */
static bool
is_private(const struct stat *st)
{
	if (st->st_uid == geteuid())
		return (st->st_mode & (S_IRWXG | S_IRWXO)) == 0;
	return st->st_uid == 0 && (st->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) == 0;
}

/* Read until the end. -1: failed (errno), -2: it is larger than the room. */
static ssize_t
read_all(int fd, char *buf, size_t size)
{
	size_t		len = 0;

	for (;;)
	{
		ssize_t		n = read(fd, buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			return (ssize_t) len;
		len += n;
		if (len == size)
			return -2;
	}
}

char *
dmshook_private_file_read(const char *path, const char *what, char *buf, size_t size, size_t *len, struct stat *seen)
{
	struct stat st;
	char	   *problem = NULL;
	ssize_t		n = 0;
	int			fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (seen)
		memset(seen, 0, sizeof(*seen));
	if (fd < 0)
		return psprintf("could not open %s \"%s\": %m", what, path);
	if (fstat(fd, &st) != 0)
		problem = psprintf("could not stat %s \"%s\": %m", what, path);
	else if (!S_ISREG(st.st_mode))
		problem = psprintf("%s \"%s\" is not a regular file", what, path);
	else if (!is_private(&st))
		problem = psprintf("%s \"%s\" has another owner, or group or world access; it must be u=rw (0600) or less, or u=rw,g=r (0640) if owned by root",
						   what, path);
	else if ((n = read_all(fd, buf, size)) == -1)
		problem = psprintf("could not read %s \"%s\": %m", what, path);
	else if (n == -2)
		problem = psprintf("%s \"%s\" is too long", what, path);
	else if (memchr(buf, '\0', n) != NULL)
		problem = psprintf("%s \"%s\" is not a text file", what, path);
	close(fd);
	if (problem)
	{
		explicit_bzero(buf, size);
		return problem;
	}
	buf[n] = '\0';
	*len = n;
	if (seen)
		*seen = st;
	return NULL;
}
