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

CREATE FUNCTION dmshook._payload(event dmshook.event, test boolean) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_payload' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._payload IS 'request body of an event, byte for byte';

CREATE FUNCTION dmshook._query(event dmshook.event, test boolean, has_query boolean) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_query' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._query IS 'query string of an event, for methods without a body';
