/*
 * Nobody may do anything with dmshook but its owner and superusers, until
 * they are granted it.  Triggers need no right of whoever writes the row.
 */
REVOKE ALL ON SCHEMA dmshook FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA dmshook FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA dmshook FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA dmshook FROM PUBLIC;
