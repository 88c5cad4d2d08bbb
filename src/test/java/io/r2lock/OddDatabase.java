package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.UUID;

/** A database of its own, in which built-in functions can be made to behave as those of odd or other servers do. */
final class OddDatabase implements AutoCloseable {

    private final TestServer server;
    private final String name = "odd_" + UUID.randomUUID().toString().replace("-", "");
    private final Sessions sessions;

    OddDatabase(TestServer server) {
        this.server = server;
        this.sessions = new Sessions(server);
        server.execute("create database " + name);
    }

    /** A server on which nobody is excluded from anything. */
    OddDatabase withoutExclusion() {
        return replace("pg_advisory_xact_lock(bigint)", "void", "begin return; end")
                .replace("pg_advisory_xact_lock_shared(bigint)", "void", "begin return; end")
                .replace("pg_try_advisory_xact_lock(bigint)", "boolean", "begin return true; end")
                .replace("pg_try_advisory_xact_lock_shared(bigint)", "boolean", "begin return true; end");
    }

    /** A server that treats one setting in its own way: {@code treatment} is PL/pgSQL that returns its value as text. */
    OddDatabase treating(String setting, String treatment) {
        return replace(
                "set_config(text, text, boolean)",
                "text",
                "begin if $1 = '" + setting + "' then " + treatment
                        + " end if; return pg_catalog.set_config_0($1, $2, $3); end");
    }

    /** A server that says from now on that it is a standby, or a primary. */
    OddDatabase standby(boolean standby) {
        return replace("pg_is_in_recovery()", "boolean", "begin return " + standby + "; end");
    }

    /** A server that refuses every heartbeat, though it lets its connection in. */
    OddDatabase withoutHeartbeats() {
        return replace(
                "pg_is_in_recovery()",
                "boolean",
                "begin if current_setting('application_name') like '% heartbeat' then raise exception 'not for you';"
                        + " end if; return false; end");
    }

    /** By name: the server calls a built-in function by its number, whatever its body is changed to. */
    private OddDatabase replace(String signature, String result, String body) {
        PostgresqlConnection superuser = sessions.open(configuration -> configuration.database(name));
        String function = "pg_catalog." + signature;
        String original = signature.substring(0, signature.indexOf('(')) + "_0";
        Sessions.run(superuser, "set allow_system_table_mods = on");
        String known =
                "select count(*) from pg_proc where proname = '" + original + "' and oidvectortypes(proargtypes) = '"
                        + signature.substring(signature.indexOf('(') + 1, signature.length() - 1) + "'";
        if (Sessions.ask(superuser, known).get(0).equals("0")) {
            Sessions.run(superuser, "alter function " + function + " rename to " + original);
        }
        Sessions.run(
                superuser,
                "create or replace function " + function + " returns " + result + " language plpgsql as $odd$" + body
                        + "$odd$");
        return this;
    }

    PostgresqlConnectionFactory connectionFactory() {
        return new PostgresqlConnectionFactory(
                server.configuration().database(name).build());
    }

    /** What the server shows of those that are connected to it, beside this. */
    long connected() {
        return server.count("select count(*) from pg_stat_activity where datname = '" + name
                + "' and query not like '%odd%' and query not like 'set allow_%'");
    }

    @Override
    public void close() {
        sessions.close();
        server.execute("drop database " + name + " with (force)");
    }
}
