/*
 * What is sent: the functions that views build payloads with (src/payload.c,
 * the code that the dispatcher builds them with).
 */
CREATE FUNCTION dmshook._message_id(id bigint, nonce bigint) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_message_id' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._message_id IS 'message id (webhook-id) of an event';

CREATE FUNCTION dmshook._message_sequence(message_id text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'dmshook_sql_message_sequence' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._message_sequence IS 'event id in a message id; NULL when it is none';

CREATE FUNCTION dmshook._payload(event dmshook.event, test boolean, options jsonb = NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_payload' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._payload IS 'request body of an event, byte for byte, for a webhook with these options';

CREATE FUNCTION dmshook._filter_holds(filter text, event dmshook.event) RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_filter_holds' LANGUAGE C STABLE STRICT COST 100;
COMMENT ON FUNCTION dmshook._filter_holds IS 'does a filter make a delivery of an event? Also where it fails: as an attempt that says why';

CREATE FUNCTION dmshook._filter_verdict(filter text, event dmshook.event, OUT verdict text, OUT error text)
	AS 'MODULE_PATHNAME', 'dmshook_sql_filter_verdict' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._filter_verdict IS 'true, false, unknown or error: what a filter says of an event';

CREATE FUNCTION dmshook._query(event dmshook.event, test boolean, has_query boolean) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_query' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._query IS 'query string of an event, for methods without a body';

/* As transport_handle.c puts them together: a URL may bring its own ? or &. */
CREATE FUNCTION dmshook._url_with_query(url text, event dmshook.event, test boolean) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN pg_catalog.concat(url, CASE
		WHEN pg_catalog.strpos(url, '?') OPERATOR(pg_catalog.=) 0 THEN dmshook._query(event, test, false)
		WHEN pg_catalog."right"(url, 1) OPERATOR(pg_catalog.=) ANY (ARRAY['?'::text, '&']) THEN pg_catalog.substr(dmshook._query(event, test, true), 2)
		ELSE dmshook._query(event, test, true) END);
COMMENT ON FUNCTION dmshook._url_with_query IS 'where a request without a body goes';

/*
 * What of the log is personal (rows, bodies, responses) is shown to whom
 * dmshook.grant_viewer(role, payloads => true) or grant_admin() said so; others read NULL.
 * The right is EXECUTE on _payloads_right(), so that it is inherited, dumped and
 * revoked as rights are. Asked of the role that reads, and (SELECT ...) once per query.
 */
CREATE FUNCTION dmshook._payloads_right() RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN true;
COMMENT ON FUNCTION dmshook._payloads_right IS 'who may execute this sees payloads in the views';

CREATE FUNCTION dmshook._sees_payloads() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE RETURN pg_catalog.has_function_privilege('dmshook._payloads_right()', 'EXECUTE');
COMMENT ON FUNCTION dmshook._sees_payloads IS 'does the current role see payloads in the views?';

/* Errors that may quote what a function or filter was given. */
CREATE FUNCTION dmshook._quotes_data(error text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce((error LIKE 'the transform % failed: %' OR error LIKE 'the filter failed: %' OR error LIKE 'the payload cannot be read%')
	AND error NOT LIKE '%took longer than%', false);
COMMENT ON FUNCTION dmshook._quotes_data IS 'may an error hold data of the event it is about?';

CREATE FUNCTION dmshook._cut_error(error text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN dmshook._quotes_data(error) THEN substring(error FROM '^.*?(?:failed|cannot be read)') ELSE error END;
COMMENT ON FUNCTION dmshook._cut_error IS 'an error without what it quotes';

/* Also in functions that run as their owner: there the current role sees all, and who called it counts. */
CREATE FUNCTION dmshook._shown_error(error text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN NOT dmshook._quotes_data(error) THEN error
	WHEN dmshook._sees_payloads() AND pg_catalog.has_function_privilege(dmshook._caller()::name, 'dmshook._payloads_right()', 'EXECUTE') THEN error
	ELSE dmshook._cut_error(error) END;
COMMENT ON FUNCTION dmshook._shown_error IS 'an error as the reader may see it: without payloads, without what it quotes of them';
