/*
 * transform.h - bodies that a function of the database makes, and filters that take long, in a helper
 * process. See transform.c (the dispatcher's side) and transformer.c (the helper).
 */
#ifndef DMSHOOK_TRANSFORM_H
#define DMSHOOK_TRANSFORM_H

#include "postgres.h"

#include "filter.h"

#define DMSHOOK_TRANSFORM_LIMIT_MS	1000	/* one call */
#define DMSHOOK_TRANSFORM_SLOW_US	20000	/* who takes longer on average is served by the second helper */

/* What a call came to; the pointers are valid until the next call of dmshook_transform_finished(). */
typedef struct DmshookTransformed
{
	void	   *owner;			/* as asked */
	bool		filter;			/* it was a filter: verdict; else body */
	DmshookFilterVerdict verdict;	/* DMSHOOK_FILTER_ERROR: it failed */
	const char *body;			/* UTF-8, zero-terminated; NULL: it failed */
	int			len;
	const char *error;			/* UTF-8 */
	const char *hint;
	bool		timed_out;
	int64		duration_us;
} DmshookTransformed;

/*
 * Dispatcher, outside transactions. Ask for function(body), as the role; the body is copied. slow: of
 * the second helper, beside others that are slow; webhooks take turns there.
 */
extern void dmshook_transform_ask(void *owner, int webhook, bool slow, const char *function, const char *role,
								  const char *body, int len);

/*
 * Ask whether a filter holds for the payload; where it fails, whether the second one does ("": yes; NULL: there
 * is none). A verdict is never DMSHOOK_FILTER_UNASKED.
 */
extern void dmshook_transform_ask_filter(void *owner, int webhook, bool slow, const char *filter, const char *second,
										 const char *body, int len);

/* Filters of a webhook that wait for their turn fail, with this error. */
extern void dmshook_transform_call_off(int webhook, const char *error);

/* False: there was no room for a helper, a moment ago. */
extern bool dmshook_transform_available(void);

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

/* A request: this, then function and role, or a filter and the second one (each with its zero byte), and the body. */
typedef struct DmshookTransformRequest
{
	int			limit_ms;
	bool		filter;
	bool		has_second;
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

/* An answer: this, then the body (of a filter nothing), or the error, and a zero byte. */
typedef struct DmshookTransformAnswer
{
	DmshookTransformStatus status;
	DmshookFilterVerdict verdict;
	int			len;
	int64		duration_us;
} DmshookTransformAnswer;

#endif							/* DMSHOOK_TRANSFORM_H */
