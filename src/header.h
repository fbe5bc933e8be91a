/*
 * header.h - names and values of headers that people choose. See header.c.
 */
#ifndef DMSHOOK_HEADER_H
#define DMSHOOK_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#define DMSHOOK_HEADER_MAX_NAME		100
#define DMSHOOK_HEADER_MAX_VALUE	8192

typedef enum DmshookHeaderFault
{
	DMSHOOK_HEADER_FINE,
	DMSHOOK_HEADER_NO_NAME,		/* no token of RFC 9110, or too long */
	DMSHOOK_HEADER_RESERVED,	/* HTTP or dmshook sets it */
	DMSHOOK_HEADER_PREFIX,		/* begins as those of dmshook do */
	DMSHOOK_HEADER_CONTROL,		/* the value has a line break, a zero byte or the like */
	DMSHOOK_HEADER_LENGTH		/* it is empty or too long, or begins or ends with a space */
} DmshookHeaderFault;

/* A name; *prefix: with which it must not begin, where that is the fault. */
extern DmshookHeaderFault dmshook_header_name_fault(const char *name, const char **prefix);

/* A value, of so many bytes. */
extern DmshookHeaderFault dmshook_header_value_fault(const char *value, size_t len);

/* The same name, in upper or lower case? */
extern bool dmshook_header_same(const char *a, const char *b);

/* A line break, a zero byte or the like? */
extern bool dmshook_has_control(const char *text, size_t len);

#endif							/* DMSHOOK_HEADER_H */
