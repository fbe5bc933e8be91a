/*
 * transform.c - asking the helper processes for bodies that a function of the
 * database makes, and for what filters say that take long.
 *
 * Runs in the dispatcher, outside transactions; nothing here waits. There are
 * two lanes, each with a helper of its own (transformer.c), launched when first needed:
 * one for functions that are quick, and one for those that are not, so that these
 * delay each other only. A lane has one call under way; the others wait in a list, from which webhooks are
 * served in turn. Request and
 * answer go over two shm_mq in a DSM segment. A helper that ends fails the call
 * that it had, unless the server is being stopped; the next call launches another. When the dispatcher goes, its segment goes, and the
 * helper ends.
 */
#include "postgres.h"

#include <time.h>

#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "transform.h"

#define LANES			2
#define GRACE_US		5000000 /* beyond its limit a helper gets so long, then it is ended */
#define IDLE_US			60000000	/* a helper that has had nothing to do for so long is let go */
#define GONE_US			100000	/* one that went may have heard of a shutdown before us: its call has not failed yet */
#define NO_ROOM_US		10000000	/* none could be launched: who can do without one does, for so long */

/* A call that waits, or is under way. */
typedef struct Job
{
	void	   *owner;
	int			webhook;
	bool		filter;
	char	   *called_off;		/* it is not to be made: why */
	dlist_node	node;
	StringInfoData request;
} Job;

typedef struct Lane
{
	dlist_head	jobs;			/* the first one is under way, if sending or sent */
	int			last_webhook;	/* whose call was the last one */
	bool		sending;
	bool		sent;
	int64		since;			/* of that; or when the last one ended */
	int64		gone;			/* when the helper was found gone under the first call; 0: it was not */
	dsm_segment *segment;		/* NULL: no helper */
	shm_mq_handle *requests;
	shm_mq_handle *answers;
	BackgroundWorkerHandle *worker;
} Lane;

static Lane lanes[LANES];
static MemoryContext context = NULL;
static Job *last = NULL;		/* its owner has been told; freed at the next call */
static int64 no_room_since = 0; /* 0: none, as far as we know */

static int64
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* The dispatcher ends: so does a helper that is in the middle of something. */
static void
end_helpers(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	for (int i = 0; i < LANES; i++)
	{
		if (lanes[i].segment && lanes[i].sent)
			TerminateBackgroundWorker(lanes[i].worker);
	}
}

static void
init(void)
{
	if (context)
		return;
	context = AllocSetContextCreate(TopMemoryContext, "dmshook transforms", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < LANES; i++)
		dlist_init(&lanes[i].jobs);
	before_shmem_exit(end_helpers, (Datum) 0);
}

/* Let the helper go; told: it is to end now, whatever it does. */
static void
release(Lane *lane, bool told)
{
	if (told)
		TerminateBackgroundWorker(lane->worker);
	shm_mq_detach(lane->requests);
	shm_mq_detach(lane->answers);
	dsm_detach(lane->segment);	/* the helper ends */
	pfree(lane->worker);
	lane->segment = NULL;
	lane->sending = lane->sent = false;
}

/* Launch a helper. False: there is no room for a process. */
static bool
launch(Lane *lane, int number)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	ResourceOwner owner = CurrentResourceOwner;
	BackgroundWorker worker;
	shm_toc_estimator e;
	shm_toc    *toc;
	shm_mq	   *requests;
	shm_mq	   *answers;
	Size		size;
	bool		ok;

	shm_toc_initialize_estimator(&e);
	shm_toc_estimate_chunk(&e, DMSHOOK_TRANSFORM_QUEUE);
	shm_toc_estimate_chunk(&e, DMSHOOK_TRANSFORM_QUEUE);
	shm_toc_estimate_keys(&e, 2);
	size = shm_toc_estimate(&e);

	CurrentResourceOwner = NULL;	/* it lives as long as we want */
	lane->segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	CurrentResourceOwner = owner;
	if (lane->segment == NULL)
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	toc = shm_toc_create(DMSHOOK_TRANSFORM_MAGIC, dsm_segment_address(lane->segment), size);
	requests = shm_mq_create(shm_toc_allocate(toc, DMSHOOK_TRANSFORM_QUEUE), DMSHOOK_TRANSFORM_QUEUE);
	shm_toc_insert(toc, DMSHOOK_TRANSFORM_KEY_REQUESTS, requests);
	shm_mq_set_sender(requests, MyProc);
	answers = shm_mq_create(shm_toc_allocate(toc, DMSHOOK_TRANSFORM_QUEUE), DMSHOOK_TRANSFORM_QUEUE);
	shm_toc_insert(toc, DMSHOOK_TRANSFORM_KEY_ANSWERS, answers);
	shm_mq_set_receiver(answers, MyProc);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(lane->segment));
	memcpy(worker.bgw_extra, &MyDatabaseId, sizeof(MyDatabaseId));
	strlcpy(worker.bgw_library_name, "dmshook", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "dmshook_transformer_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "dmshook transformer%s", number == 0 ? "" : " (slow)");
	strlcpy(worker.bgw_type, "dmshook transformer", sizeof(worker.bgw_type));
	ok = RegisterDynamicBackgroundWorker(&worker, &lane->worker);
	if (ok)
	{
		lane->requests = shm_mq_attach(requests, lane->segment, lane->worker);
		lane->answers = shm_mq_attach(answers, lane->segment, lane->worker);
	}
	else
	{
		dsm_detach(lane->segment);
		lane->segment = NULL;
	}
	MemoryContextSwitchTo(old);
	return ok;
}

static void
ask(Job job, bool slow, DmshookTransformRequest head, const char *function, const char *role, const char *body)
{
	MemoryContext old;
	Job		   *kept;

	init();
	old = MemoryContextSwitchTo(context);
	kept = palloc(sizeof(Job));
	*kept = job;
	head.limit_ms = DMSHOOK_TRANSFORM_LIMIT_MS;
	head.filter = job.filter;
	head.function_len = strlen(function) + 1;
	head.role_len = strlen(role) + 1;
	initStringInfo(&kept->request);
	appendBinaryStringInfo(&kept->request, (char *) &head, sizeof(head));
	appendBinaryStringInfo(&kept->request, function, head.function_len);
	appendBinaryStringInfo(&kept->request, role, head.role_len);
	appendBinaryStringInfo(&kept->request, body, head.body_len);
	dlist_push_tail(&lanes[slow ? 1 : 0].jobs, &kept->node);
	MemoryContextSwitchTo(old);
}

void
dmshook_transform_ask(void *owner, int webhook, bool slow, const char *function, const char *role, const char *body, int len)
{
	Job			job = {.owner = owner, .webhook = webhook};
	DmshookTransformRequest head = {.body_len = len};

	ask(job, slow, head, function, role, body);
}

void
dmshook_transform_ask_filter(void *owner, int webhook, bool slow, const char *filter, const char *second, const char *body, int len)
{
	Job			job = {.owner = owner, .webhook = webhook, .filter = true};
	DmshookTransformRequest head = {.has_second = second != NULL, .body_len = len};

	ask(job, slow, head, filter, second ? second : "", body);
}

void
dmshook_transform_call_off(int webhook, const char *error)
{
	for (int i = 0; context && i < LANES; i++)
	{
		Lane	   *lane = &lanes[i];
		dlist_iter	iter;

		dlist_foreach(iter, &lane->jobs)
		{
			Job		   *job = dlist_container(Job, node, iter.cur);
			bool		under_way = (lane->sending || lane->sent) && iter.cur == dlist_head_node(&lane->jobs);

			if (job->filter && job->webhook == webhook && !under_way && job->called_off == NULL)
				job->called_off = MemoryContextStrdup(context, error);
		}
	}
}

bool
dmshook_transform_available(void)
{
	return no_room_since == 0 || now_us() - no_room_since > NO_ROOM_US;
}

/* The next call to be made comes to the head of the list: webhooks take turns, by their ids. */
static Job *
take_turn(Lane *lane)
{
	Job		   *least = NULL;
	Job		   *next = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &lane->jobs)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		if (least == NULL || job->webhook < least->webhook)
			least = job;
		if (job->webhook > lane->last_webhook && (next == NULL || job->webhook < next->webhook))
			next = job;
	}
	next = next ? next : least;
	dlist_delete(&next->node);
	dlist_push_head(&lane->jobs, &next->node);
	lane->last_webhook = next->webhook;
	return next;
}

/* The call under way ended: out of the list. */
static void
end_job(Lane *lane, DmshookTransformed *out)
{
	last = dlist_container(Job, node, dlist_pop_head_node(&lane->jobs));
	lane->sending = lane->sent = false;
	lane->since = now_us();
	out->owner = last->owner;
	out->filter = last->filter;
	out->verdict = DMSHOOK_FILTER_ERROR;
}

static void
fail(Lane *lane, DmshookTransformed *out, const char *error, const char *hint)
{
	end_job(lane, out);
	out->error = error;
	out->hint = hint;
}

static void
answered(Lane *lane, DmshookTransformed *out, Size size, const void *data)
{
	DmshookTransformAnswer head;
	const char *text = (const char *) data + sizeof(head);

	if (size < sizeof(head))
		elog(ERROR, "unexpected answer of a transformer: %zu bytes", size);
	memcpy(&head, data, sizeof(head));
	end_job(lane, out);
	out->duration_us = head.duration_us;
	out->timed_out = head.status == DMSHOOK_TRANSFORM_TIMEOUT;
	if (head.status == DMSHOOK_TRANSFORM_OK)
	{
		out->verdict = head.verdict;
		out->body = text;
		out->len = head.len;
		return;
	}
	out->error = text;
	if (last->filter)
		return;
	out->hint = out->timed_out ? "Make the function faster: it is called for each request." :
		"Mend the function, or set another with dmshook.alter_webhook(): it is called again when the delivery is.";
}

/* One lane; true: a call of it ended. */
static bool
run_lane(Lane *lane, int number, DmshookTransformed *out)
{
	shm_mq_result result;
	Job		   *job;
	Size		size;
	void	   *data;

	if (dlist_is_empty(&lane->jobs))
	{
		if (lane->segment && now_us() - lane->since > IDLE_US)
			release(lane, false);
		return false;
	}
	if (lane->gone != 0)
	{
		/* the server that stops ends all of its processes: the call is forgotten, and made again by the next dispatcher */
		if (ShutdownRequestPending || now_us() - lane->gone < GONE_US)
			return false;
		lane->gone = 0;
		job = dlist_head_element(Job, node, &lane->jobs);
		fail(lane, out, job->filter ? "the process that evaluated it ended" : "the process that called the function ended", "The server log says why. It is called again when the delivery is.");
		return true;
	}
	job = lane->sending ? dlist_head_element(Job, node, &lane->jobs) : take_turn(lane);
	if (job->called_off)
	{
		fail(lane, out, job->called_off, NULL);
		return true;
	}
	if (lane->segment == NULL && !launch(lane, number))
	{
		no_room_since = now_us();
		fail(lane, out, job->filter ? "no process could be started for it" : "no process could be started for the transform",
			 "Raise max_worker_processes: transforms and slow filters take one or two of them in each database.");
		return true;
	}
	if (!lane->sent)
	{
		if (!lane->sending)
			lane->since = now_us();
		lane->sending = true;
		result = shm_mq_send(lane->requests, job->request.len, job->request.data, true, true);
		if (result == SHM_MQ_SUCCESS)
			lane->sent = true;
		else if (result == SHM_MQ_DETACHED)
			goto gone;
	}
	result = shm_mq_receive(lane->answers, &size, &data, true);
	if (result == SHM_MQ_SUCCESS)
	{
		answered(lane, out, size, data);
		return true;
	}
	if (result == SHM_MQ_DETACHED)
		goto gone;
	if (now_us() - lane->since > DMSHOOK_TRANSFORM_LIMIT_MS * INT64CONST(1000) + GRACE_US)
	{
		release(lane, true);
		fail(lane, out, job->filter ? "it did not end in time, nor when it was cancelled" :
			 "the function did not end in time, nor when it was cancelled", "Look for a loop in it that catches query_canceled.");
		out->timed_out = true;
		return true;
	}
	return false;

gone:
	release(lane, false);
	lane->gone = now_us();
	return false;
}

bool
dmshook_transform_finished(DmshookTransformed *out)
{
	if (context == NULL)
		return false;
	memset(out, 0, sizeof(*out));
	if (last)
	{
		pfree(last->request.data);
		if (last->called_off)
			pfree(last->called_off);
		pfree(last);
		last = NULL;
	}
	for (int i = 0; i < LANES; i++)
	{
		if (run_lane(&lanes[i], i, out))
			return true;
	}
	return false;
}

bool
dmshook_transform_busy(void)
{
	return context && (!dlist_is_empty(&lanes[0].jobs) || !dlist_is_empty(&lanes[1].jobs));
}
