/*
 * shape.h - the forms that a body may have: as it is, as a CloudEvent, with
 * numbers that no receiver rounds. See shape.c.
 */
#ifndef DMSHOOK_SHAPE_H
#define DMSHOOK_SHAPE_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* A shape is a set of these; 0 is the body as payload.c builds it. */
#define DMSHOOK_SHAPE_CLOUDEVENTS	1	/* option format: cloudevents */
#define DMSHOOK_SHAPE_STRINGS		2	/* option numbers: string */
#define DMSHOOK_SHAPES				4

/*
 * Append the body in that shape. body: the bytes of payload.c, in UTF-8. Raises
 * no error but for memory.
 */
extern void dmshook_shape_append(StringInfo buf, const char *body, int len, int shape);

#endif							/* DMSHOOK_SHAPE_H */
