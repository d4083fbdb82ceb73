-- Lets a role read and write rows, and nothing else: what serve, work and the other commands need.
-- The owner of the tables runs it after the migrations, as often as they like; docs/roles.md says
-- more.
--
--     phantom migrate --runtime phantom_runtime
--
-- does it, and so does
--
--     psql "$OWNER_URL" -c "SET phantom.runtime = 'phantom_runtime'" -f sql/roles.sql
DO $roles$
DECLARE
    runtime text := current_setting('phantom.runtime');
    tables oid; -- their owner
    may record;
    item record;
BEGIN
    SELECT c.relowner INTO tables FROM pg_catalog.pg_class c
        WHERE c.relname = 'schema_version' AND c.relnamespace = 'public'::regnamespace;
    IF tables IS NULL THEN
        RAISE EXCEPTION 'there are no tables yet: run phantom migrate first';
    END IF;
    SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls AS more,
            pg_catalog.pg_has_role(r.oid, tables, 'MEMBER') AS owns
        INTO may FROM pg_catalog.pg_roles r WHERE r.rolname = runtime;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no role "%": an administrator makes it with CREATE ROLE % LOGIN', runtime, quote_ident(runtime);
    ELSIF may.more THEN
        RAISE EXCEPTION 'the role "%" may do more than read and write rows: take a role without SUPERUSER, CREATEROLE, CREATEDB, REPLICATION and BYPASSRLS', runtime;
    ELSIF may.owns THEN
        RAISE EXCEPTION 'the role "%" owns the tables, or is a member of the role that does: take another one', runtime;
    END IF;

    -- What everybody may do by default, where it is the owner's to take away.
    IF pg_catalog.pg_has_role((SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'public'), 'USAGE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', runtime);
    END IF;
    IF pg_catalog.pg_has_role((SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()), 'USAGE') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), runtime);
    END IF;

    -- What is there, and what later migrations make.
    FOR item IN SELECT c.oid::regclass AS name, c.relname, c.relkind FROM pg_catalog.pg_class c
        WHERE c.relowner = tables AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S') LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', item.name, runtime);
        EXECUTE format(CASE
            WHEN item.relkind = 'S' THEN 'GRANT USAGE ON SEQUENCE %s TO %I'
            WHEN item.relname = 'schema_version' THEN 'GRANT SELECT ON %s TO %I'
            ELSE 'GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I' END, item.name, runtime);
    END LOOP;
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', tables::regrole, runtime);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA public GRANT USAGE ON SEQUENCES TO %I', tables::regrole, runtime);

    -- An audit has the planner look at what it has just stored. Before PostgreSQL 17 only an owner
    -- may.
    IF current_setting('server_version_num')::integer >= 170000 THEN
        FOR item IN SELECT c.oid::regclass AS name FROM pg_catalog.pg_class c
            WHERE c.relowner = tables AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'audit\_%' LOOP
            EXECUTE format('GRANT MAINTAIN ON %s TO %I', item.name, runtime);
        END LOOP;
    END IF;

    IF NOT pg_catalog.has_schema_privilege(runtime, 'public', 'USAGE') THEN
        RAISE EXCEPTION 'the role "%" may not use the schema public: its owner runs GRANT USAGE ON SCHEMA public TO %', runtime, quote_ident(runtime);
    ELSIF pg_catalog.has_schema_privilege(runtime, 'public', 'CREATE') THEN
        RAISE EXCEPTION 'the role "%" may still make tables: the owner of the schema runs REVOKE CREATE ON SCHEMA public FROM PUBLIC, %', runtime, quote_ident(runtime);
    ELSIF pg_catalog.has_database_privilege(runtime, current_database(), 'TEMPORARY')
        OR pg_catalog.has_database_privilege(runtime, current_database(), 'CREATE') THEN
        RAISE EXCEPTION 'the role "%" may still make temporary tables or schemas: the owner of the database runs REVOKE CREATE, TEMPORARY ON DATABASE % FROM PUBLIC, %',
            runtime, quote_ident(current_database()), quote_ident(runtime);
    END IF;
END
$roles$;
