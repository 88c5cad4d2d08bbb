package io.r2lock;

import static io.r2lock.SessionCall.Answer.FAILED;
import static io.r2lock.SessionCall.Answer.GRANTED;
import static io.r2lock.SessionCall.Answer.RELEASED;
import static io.r2lock.SessionWireContract.awaited;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcTimeoutException;
import io.r2lock.SessionCalls.Call;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.scheduler.Schedulers;

/** A server that runs out of locks, refuses a statement, or goes silent. */
class SessionTroubleIT {

    private static final TestServer SERVER =
            TestServer.own(EmbeddedServer.NEWEST, Map.of("max_locks_per_transaction", "10", "max_connections", "20"));

    private final Sessions sessions = new Sessions(SERVER);
    private final SessionCalls told = new SessionCalls();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(SERVER);

    @AfterEach
    void close() {
        sessions.close();
    }

    @AfterAll
    static void stop() {
        SERVER.close();
    }

    private SessionConnection connection(PostgresqlConnection wire) {
        return new SessionConnection(wire, Sessions.pid(wire), Schedulers.parallel(), told);
    }

    /** Asks on a connection that is open already: with a full lock table the server lets nobody in. */
    private static long held(SessionConnection connection, PostgresqlConnection watcher) {
        String sql =
                "select count(*) from pg_locks where locktype = 'advisory' and granted and pid = " + connection.pid();
        return Long.parseLong(Sessions.ask(watcher, sql).get(0));
    }

    private static List<Call> lockAll(SessionConnection connection, int from, int to) {
        return IntStream.range(from, to)
                .mapToObj(i -> SessionCalls.lock(connection, LockKey.of(i)))
                .toList();
    }

    @Test
    void outOfLocks_failsTheCallersBeyondCapacity_andNobodyElse() {
        PostgresqlConnection watcher = sessions.open();
        SessionConnection connection = connection(sessions.open());
        assertThat(held(connection, watcher)).isZero();
        List<Call> early = lockAll(connection, 0, 200);
        assertThat(early).allMatch(call -> awaited(call).answer == GRANTED);
        int asked = 4_000;
        List<Call> calls = lockAll(connection, 1_000, 1_000 + asked);
        calls.forEach(SessionWireContract::awaited);

        long granted = calls.stream().filter(call -> call.answer == GRANTED).count();
        assertThat(granted).isBetween(100L, asked - 100L);
        assertThat(calls).filteredOn(call -> call.answer != GRANTED).allMatch(call -> "53200".equals(call.sqlState()));
        assertThat(connection.claims().held()).isEqualTo((int) granted + early.size());
        assertThat(told.ends).isEmpty();
        assertThat(told.lost).isEmpty();
        assertThat(held(connection, watcher)).isEqualTo(connection.claims().held());

        List<Call> releases = new ArrayList<>();
        for (int i = 0; i < asked; i++) {
            if (calls.get(i).answer == GRANTED) {
                releases.add(SessionCalls.unlock(connection, LockKey.of(1_000 + i)));
            }
        }
        IntStream.range(0, early.size()).forEach(i -> releases.add(SessionCalls.unlock(connection, LockKey.of(i))));
        assertThat(releases).allMatch(call -> awaited(call).answer == RELEASED);
        assertThat(held(connection, watcher)).isZero();
        assertThat(connection.claims().keys()).isZero();
    }

    @Test
    void aBatchThatFailsAtItsLastStatement_isReconciled() {
        SERVER.execute(
                "create role app login",
                "revoke execute on function pg_try_advisory_lock_shared(int, int) from public");
        PostgresqlConnection wire = sessions.open(configuration -> configuration.username("app"));
        SessionConnection connection = connection(wire);
        List<Call> early = lockAll(connection, 0, 3);
        assertThat(early).allMatch(call -> awaited(call).answer == GRANTED);
        // a loss that nobody has noticed, and locks that nobody claims, one of them held twice
        Sessions.run(
                wire,
                "select pg_advisory_unlock(1), pg_advisory_lock(50), pg_advisory_lock(50), pg_advisory_lock(-5, 51),"
                        + " pg_advisory_lock_shared(0)");
        List<Call> fillers = lockAll(connection, 60, 62);
        Call release = SessionCalls.unlock(connection, LockKey.of(2));
        Call bigint = SessionCalls.lock(connection, LockKey.of(7));
        Call refused = SessionCalls.lock(connection, LockKey.of(7, 7), LockMode.SHARED);
        List.of(release, bigint, refused).forEach(SessionWireContract::awaited);

        assertThat(fillers).allMatch(call -> awaited(call).answer == GRANTED);
        assertThat(release.answer).isEqualTo(RELEASED);
        assertThat(bigint.answer).isEqualTo(GRANTED);
        assertThat(refused.sqlState()).isEqualTo("42501");
        assertThat(told.ends).isEmpty();
        assertThat(SERVER.query("select objid::int from pg_locks where locktype = 'advisory' order by 1"))
                .extracting(row -> row.get("objid"))
                .containsExactly(0, 7, 60, 61);
        assertThat(told.lost).containsExactly(LockKey.of(1));
    }

    @Test
    void aSilentNetwork_endsTheConnectionAfterTheDeadline() {
        residue.allowLog(Level.WARN, "io.r2lock.SessionConnection");
        try (TcpProxy proxy = TcpProxy.to(SERVER).start()) {
            PostgresqlConnection wire = sessions.open(
                    configuration -> configuration.host(proxy.host()).port(proxy.port()));
            SessionConnection connection = connection(wire);
            assertThat(awaited(SessionCalls.lock(connection, LockKey.of(1))).answer)
                    .isEqualTo(GRANTED);
            proxy.stall();
            List<Call> calls = new ArrayList<>(lockAll(connection, 2, 100));
            calls.add(SessionCalls.unlock(connection, LockKey.of(1)));

            assertThat(calls).allMatch(call -> awaited(call).answer == FAILED);
            assertThat(calls).allMatch(call -> call.error instanceof R2dbcTimeoutException);
            Await.until("end", () -> told.ends.size() == 1);
            proxy.resume();
        }
    }

    @Test
    void aResetNetwork_endsTheConnectionAtOnce() {
        try (TcpProxy proxy = TcpProxy.to(SERVER).start()) {
            SessionConnection connection = connection(sessions.open(
                    configuration -> configuration.host(proxy.host()).port(proxy.port())));
            lockAll(connection, 0, 100).forEach(SessionWireContract::awaited);
            proxy.reset();
            Await.until("end", () -> told.ends.size() == 1);
            assertThat(awaited(SessionCalls.lock(connection, LockKey.of(1))).answer)
                    .isEqualTo(FAILED);
        }
    }
}
