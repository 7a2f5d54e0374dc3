-- startup: what a server says of itself, and of the account and the role that a connection works as.
--
-- Returns  one row: version, fsync, full_page_writes, synchronous_commit, encoding, is_replica, account, role,
--          account_bypasses and role_bypasses (row security), owns_log: whether the account has the rights of the
--          log's owner
-- Caller   event_store/startup.py

SELECT current_setting('server_version_num')::integer AS version,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() AS is_replica,
       session_user::text AS account,
       current_user::text AS role,
       (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.rolname = session_user) AS account_bypasses,
       (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.rolname = current_user) AS role_bypasses,
       EXISTS (SELECT FROM pg_class AS c
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = '{namespace}' AND c.relname = 'events'
                  AND pg_has_role(session_user, c.relowner, 'USAGE')) AS owns_log
