package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What the sessions of a server have been set to, read over whatever leads to them. */
final class PoolerSettings {

    /** What r2lock sets on a session of its own, and what it sets for one statement or transaction. */
    private static final String CHANGED = """
            select coalesce(string_agg(name || '=' || setting, ', ' order by name), '') from pg_settings
            where source = 'session' and name in ('tcp_user_timeout', 'tcp_keepalives_idle', 'tcp_keepalives_interval',
              'tcp_keepalives_count', 'client_connection_check_interval', 'idle_in_transaction_session_timeout',
              'idle_session_timeout', 'transaction_timeout', 'lock_timeout', 'statement_timeout', 'role',
              'session_authorization', 'search_path', 'default_transaction_isolation')
            or name = 'application_name' and setting like '%r2lock%'
            or name like 'r2lock.%' and setting <> ''""";

    private PoolerSettings() {}

    /** Those of the hold's session. */
    static String changed(HeldLock hold) {
        return Objects.requireNonNull(Flux.from(
                        hold.connection().createStatement(CHANGED).execute())
                .flatMap(result -> result.map(row -> Objects.requireNonNull(row.get(0, String.class))))
                .blockLast(TestClients.PATIENCE));
    }

    /** Those of each of the pooler's backends: a transaction on each, all open at once. */
    static List<String> changedOnAll(TestServer server, PgBouncer pooler, int poolSize) {
        try (Sessions sessions = new Sessions(server)) {
            List<PostgresqlConnection> all = IntStream.range(0, poolSize)
                    .mapToObj(i -> sessions.open(pooler::through))
                    .toList();
            all.forEach(one -> Sessions.run(one, "begin"));
            long backends = all.stream().mapToInt(Sessions::pid).distinct().count();
            List<String> changed =
                    all.stream().map(one -> Sessions.ask(one, CHANGED).get(0)).toList();
            Flux.fromIterable(all)
                    .concatMap(one -> Sessions.send(one, "rollback").then(Mono.<Void>empty()))
                    .blockLast(TestClients.PATIENCE);
            if (backends != poolSize) {
                throw new AssertionError(backends + " backends of " + poolSize);
            }
            return changed;
        }
    }
}
