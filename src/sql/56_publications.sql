/*
 * Publications that carry our tables. FOR ALL TABLES takes them along when the extension is
 * created, and the catalogue of event types is written at once: a subscriber that lacks the
 * tables stops there, and with it the replication of the DMS's own.
 */
CREATE FUNCTION dmshook._publications(OUT publication name, OUT hint text) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT p.pubname, format('In each database that subscribes to it: CREATE EXTENSION dmshook; (it goes on then, and need not preload dmshook). Better: publish the DMS''s tables only, in one transaction: DROP PUBLICATION %1$I; CREATE PUBLICATION %1$I FOR TABLES IN SCHEMA ...;',
		p.pubname)
	FROM pg_publication p
	WHERE p.puballtables
		OR EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid AND n.pnnspid = 'dmshook'::regnamespace)
		OR EXISTS (SELECT FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid WHERE r.prpubid = p.oid AND c.relnamespace = 'dmshook'::regnamespace)
$$;
COMMENT ON FUNCTION dmshook._publications IS 'publications that carry tables of dmshook, and what to do about each';

CREATE FUNCTION dmshook._warn_published() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p record;
BEGIN
	FOR p IN SELECT * FROM dmshook._publications() ORDER BY publication LOOP
		RAISE WARNING 'publication "%" publishes the tables of dmshook, too', p.publication
			USING DETAIL = 'A subscription stops where they are missing. The secrets of webhooks are among them.', HINT = p.hint;
	END LOOP;
END
$$;
COMMENT ON FUNCTION dmshook._warn_published IS 'a WARNING for each publication that carries tables of dmshook; CREATE EXTENSION calls it';

CREATE FUNCTION dmshook._check_publications(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'warning', format('publication %s', p.publication),
		'it publishes the tables of dmshook, the secrets of webhooks among them: a subscription stops where they are missing', p.hint
	FROM dmshook._publications() p
$$;
COMMENT ON FUNCTION dmshook._check_publications IS 'the part of dmshook.check() about publications';

SELECT dmshook._warn_published();
