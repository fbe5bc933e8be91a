/*
 * transform.h - bodies that a function of the database makes, in a helper
 * process. See transform.c (the dispatcher's side) and transformer.c (the helper).
 */
#ifndef DMSHOOK_TRANSFORM_H
#define DMSHOOK_TRANSFORM_H

#include "postgres.h"

#define DMSHOOK_TRANSFORM_LIMIT_MS	1000	/* one call */
#define DMSHOOK_TRANSFORM_SLOW_US	20000	/* who takes longer on average is served by the second helper */

/* What a call came to; the pointers are valid until the next call of dmshook_transform_finished(). */
typedef struct DmshookTransformed
{
	void	   *owner;			/* as asked */
	const char *body;			/* UTF-8, zero-terminated; NULL: it failed */
	int			len;
	const char *error;			/* UTF-8 */
	const char *hint;
	bool		timed_out;
	int64		duration_us;
} DmshookTransformed;

/*
 * Dispatcher, outside transactions. Ask for function(body), as the role; the body is copied. slow: of
 * the second helper, behind others that are slow.
 */
extern void dmshook_transform_ask(void *owner, bool slow, const char *function, const char *role,
								  const char *body, int len);

/* Send what is asked, take what is answered; the next one that ended, or false. Never waits. */
extern bool dmshook_transform_finished(DmshookTransformed *out);

/* Is a call under way or waiting? Then look again within a second, though nothing wakes us. */
extern bool dmshook_transform_busy(void);

/* ------------------------------------------------ between the two processes */

#define DMSHOOK_TRANSFORM_MAGIC		0x646d7468
#define DMSHOOK_TRANSFORM_QUEUE		((Size) 64 * 1024)	/* a longer message goes in parts */

/* keys in the segment's table of contents */
#define DMSHOOK_TRANSFORM_KEY_REQUESTS	1
#define DMSHOOK_TRANSFORM_KEY_ANSWERS	2

/* A request: this, then function, role (each with its zero byte) and body. */
typedef struct DmshookTransformRequest
{
	int			limit_ms;
	int			function_len;	/* with the zero byte, as the next */
	int			role_len;
	int			body_len;
} DmshookTransformRequest;

typedef enum DmshookTransformStatus
{
	DMSHOOK_TRANSFORM_OK,
	DMSHOOK_TRANSFORM_ERROR,
	DMSHOOK_TRANSFORM_TIMEOUT
} DmshookTransformStatus;

/* An answer: this, then the body, or the error, and a zero byte. */
typedef struct DmshookTransformAnswer
{
	DmshookTransformStatus status;
	int			len;
	int64		duration_us;
} DmshookTransformAnswer;

#endif							/* DMSHOOK_TRANSFORM_H */
