package io.r2lock;

import static io.r2lock.Sessions.ask;
import static io.r2lock.Sessions.pid;
import static io.r2lock.Sessions.run;
import static io.r2lock.Sessions.send;
import static io.r2lock.Sessions.sqlState;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcRollbackException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Mono;

/** Facts of the server and of the driver that r2lock relies on: a new major or driver that changes one fails here. */
abstract class PostgresBehaviour {

    /** Everything that DISCARD ALL does, but for DEALLOCATE ALL, which takes the driver's prepared statements away. */
    private static final String CLEAN = """
            SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; \
            DISCARD TEMP; DISCARD PLANS; DISCARD SEQUENCES; SELECT pg_advisory_unlock_all()""";

    private static final String WHO = "SELECT session_user || ' as ' || current_user";

    private final TestServer server;
    private final Sessions sessions;

    @RegisterExtension
    final NoResidue residue;

    PostgresBehaviour(TestServer server) {
        this.server = server;
        sessions = new Sessions(server);
        residue = NoResidue.on(server);
    }

    @BeforeEach
    void setUp() {
        server.execute(
                "drop table if exists fact",
                "create table fact (value int)",
                "insert into fact values (0)",
                "drop role if exists app",
                "drop role if exists other",
                "drop role if exists third",
                "create role other",
                "create role third role other",
                "create role app login password 'app' in role other");
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    @Test
    void beginAndLock_inOneMessage_areOneRoundTrip() {
        try (TcpProxy proxy = TcpProxy.to(server).delay(Duration.ofMillis(20)).start()) {
            PostgresqlConnection connection = sessions.open(
                    configuration -> configuration.host(proxy.host()).port(proxy.port()));
            long fastest = Long.MAX_VALUE;
            for (int i = 0; i < 5; i++) {
                long start = System.nanoTime();
                run(connection, "BEGIN; SELECT pg_advisory_xact_lock(1)");
                fastest = Math.min(fastest, System.nanoTime() - start);
                run(connection, "ROLLBACK");
            }
            connection.close().block();
            assertThat(Duration.ofNanos(fastest)).isBetween(Duration.ofMillis(40), Duration.ofMillis(60));
        }
    }

    @Test
    void lockTimeout_countsForEachKeyAnew_andEndsWith55P03() {
        PostgresqlConnection first = sessions.open();
        PostgresqlConnection second = sessions.open();
        PostgresqlConnection waiter = sessions.open();
        run(first, "SELECT pg_advisory_lock(1)");
        run(second, "SELECT pg_advisory_lock(2)");
        run(waiter, "SET lock_timeout = 1000");

        assertThat(sqlState(send(waiter, "SELECT pg_advisory_lock(1)"))).isEqualTo("55P03");

        long start = System.nanoTime();
        CompletableFuture<Void> both =
                send(waiter, "SELECT pg_advisory_lock(1), pg_advisory_lock(2)").toFuture();
        Mono.delay(Duration.ofMillis(600))
                .then(first.close())
                .then(Mono.delay(Duration.ofMillis(600)))
                .then(second.close())
                .block();
        assertThat(sqlState(both)).isNull();
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isGreaterThan(Duration.ofMillis(1_100));
    }

    @Test
    void cancelRequest_endsTheWaitWith57014_andTakesItFromPgLocks() {
        PostgresqlConnection holder = sessions.open();
        PostgresqlConnection waiter = sessions.open();
        run(holder, "SELECT pg_advisory_lock(1)");
        long fastest = Long.MAX_VALUE;
        for (int i = 0; i < 5; i++) {
            CompletableFuture<Void> wait =
                    send(waiter, "BEGIN; SELECT pg_advisory_xact_lock(1)").toFuture();
            sessions.awaitWaiting(1);
            long start = System.nanoTime();
            waiter.cancelRequest().block();
            assertThat(sqlState(wait)).isEqualTo("57014");
            fastest = Math.min(fastest, System.nanoTime() - start);
            assertThat(sessions.waiting()).isZero(); // the server leaves the queue before it answers
            run(waiter, "ROLLBACK");
        }
        assertThat(Duration.ofNanos(fastest)).isLessThan(Duration.ofMillis(100));
    }

    @Test
    void rollbackToSavepoint_freesALockTakenAfterIt() {
        PostgresqlConnection connection = sessions.open();
        run(connection, "BEGIN; SELECT pg_advisory_xact_lock(1); SAVEPOINT s; SELECT pg_advisory_xact_lock(2)");
        assertThat(sessions.held()).isEqualTo(2);
        run(connection, "ROLLBACK TO SAVEPOINT s");
        assertThat(sessions.held()).isEqualTo(1);
    }

    @Test
    void repeatableRead_takesItsSnapshotBeforeTheWait_readCommittedAfter() {
        assertThat(readAfterWait("REPEATABLE READ", 1)).isEqualTo("0");
        assertThat(readAfterWait("READ COMMITTED", 2)).isEqualTo("2");
    }

    private String readAfterWait(String isolation, int value) {
        PostgresqlConnection holder = sessions.open();
        PostgresqlConnection waiter = sessions.open();
        run(holder, "BEGIN; SELECT pg_advisory_xact_lock(1); UPDATE fact SET value = " + value);
        CompletableFuture<Void> wait = send(
                        waiter, "BEGIN ISOLATION LEVEL " + isolation + "; SELECT pg_advisory_xact_lock(1)")
                .toFuture();
        sessions.awaitWaiting(1);
        run(holder, "COMMIT");
        assertThat(sqlState(wait)).isNull();
        String read = ask(waiter, "SELECT value FROM fact").get(0);
        run(waiter, "ROLLBACK");
        return read;
    }

    @Test
    void setLocalToDefault_givesTheRolesValue_notTheSessions() {
        server.execute("alter role app set lock_timeout = '7s'");
        PostgresqlConnection connection = app();
        run(connection, "SET lock_timeout = '3s'");
        run(connection, "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL lock_timeout TO DEFAULT");
        assertThat(ask(connection, "SHOW lock_timeout")).containsExactly("7s");
        run(connection, "ROLLBACK");
        assertThat(ask(connection, "SHOW lock_timeout")).containsExactly("3s");
    }

    @Test
    void clean_inOneMessage_endsInTheRolesOwnState_andKeepsPreparedStatements() {
        server.execute("alter role app set role = 'other'", "alter role app set work_mem = '5MB'");
        PostgresqlConnection connection = app();
        String prepared = "SELECT $1::int + count(*) FROM pg_prepared_statements";
        assertThat(ask(connection, prepared, 1)).containsExactly("2");
        run(connection, "CREATE TEMP TABLE left_over (id serial)");
        run(connection, "INSERT INTO left_over DEFAULT VALUES");
        run(connection, "DECLARE left_over CURSOR WITH HOLD FOR SELECT 1");
        run(connection, "LISTEN left_over; SET work_mem = '9MB'; SET ROLE NONE; SELECT pg_advisory_lock(1)");
        assertThat(ask(connection, "SELECT current_user::text")).containsExactly("app");

        run(connection, CLEAN);

        assertThat(ask(connection, WHO)).containsExactly("app as other");
        assertThat(ask(connection, "SHOW work_mem")).containsExactly("5MB");
        assertThat(ask(connection, "SELECT name FROM pg_cursors WHERE name = 'left_over'"))
                .isEmpty();
        assertThat(ask(connection, "SELECT pg_listening_channels()")).isEmpty();
        assertThat(ask(connection, "SELECT to_regclass('left_over') IS NULL")).containsExactly("true");
        assertThat(sqlState(send(connection, "SELECT lastval()"))).isEqualTo("55000");
        assertThat(sessions.held()).isZero();
        assertThat(ask(connection, prepared, 1)).containsExactly("2");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE",
                "RESET ROLE; SET SESSION AUTHORIZATION DEFAULT",
                "SET SESSION AUTHORIZATION DEFAULT"
            })
    void sessionAuthorization_setBack_givesTheRolesOwnRole(String reset) {
        server.execute("alter role app superuser", "alter role app set role = 'other'");
        PostgresqlConnection connection = app();
        run(connection, "RESET ROLE; SET SESSION AUTHORIZATION other; SET ROLE third");
        assertThat(ask(connection, WHO)).containsExactly("other as third");
        run(connection, reset);
        assertThat(ask(connection, WHO)).containsExactly("app as other");
    }

    @Test
    void commitTransaction_ofAFailedTransaction_fails_aRawCommitDoesNot() {
        PostgresqlConnection connection = sessions.open();
        connection.beginTransaction().block();
        assertThat(sqlState(send(connection, "SELECT 1 / 0"))).isEqualTo("22012");
        assertThatThrownBy(() -> connection.commitTransaction().block())
                .isInstanceOfSatisfying(
                        R2dbcRollbackException.class,
                        error -> assertThat(error.getSqlState()).isEqualTo("99999"));

        run(connection, "BEGIN");
        assertThat(sqlState(send(connection, "SELECT 1 / 0"))).isEqualTo("22012");
        assertThat(sqlState(send(connection, "COMMIT"))).isNull();
    }

    @Test
    void transactionLock_isGrantedAgainToItsOwnSession_pastAWaiter_andFreedOnce() {
        PostgresqlConnection holder = sessions.open();
        PostgresqlConnection waiter = sessions.open();
        run(holder, "BEGIN; SELECT pg_advisory_xact_lock(1)");
        CompletableFuture<Void> wait =
                send(waiter, "SELECT pg_advisory_xact_lock(1)").toFuture();
        sessions.awaitWaiting(1);
        assertThat(ask(holder, "SELECT pg_try_advisory_xact_lock(1)")).containsExactly("true");
        run(holder, "SELECT pg_advisory_xact_lock(1)");
        assertThat(sessions.held()).isEqualTo(1);
        run(holder, "COMMIT");
        assertThat(sqlState(wait)).isNull();
    }

    @Test
    void notifications_ofAnIdleConnection_endWithAnErrorAsSoonAsItsBackendIsTerminated() {
        PostgresqlConnection connection = sessions.open();
        int pid = pid(connection);
        CompletableFuture<Void> end = connection.getNotifications().then().toFuture();
        long start = System.nanoTime();
        server.execute("select pg_terminate_backend(" + pid + ")");
        assertThat(sqlState(end)).isEqualTo("08006"); // the server's own 57P01 is not seen
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofMillis(200));
    }

    private PostgresqlConnection app() {
        return sessions.open(configuration -> configuration.username("app").password("app"));
    }
}
