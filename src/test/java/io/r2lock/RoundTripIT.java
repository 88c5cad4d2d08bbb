package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;

/** What a cycle costs where it matters: on a network of 100 ms there and back. */
class RoundTripIT {

    private static final LockKey A = LockKey.of(4_001);
    private static final LockKey B = LockKey.of(4_002);
    private static final LockKey C = LockKey.of(4_003);
    private static final double ROUND_TRIP_MILLIS = 100;

    private final TestServer server = TestServer.newest();
    private final TcpProxy proxy = TcpProxy.to(server).start();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void setUp() {
        server.execute(
                "drop role if exists limited",
                "create role limited login password 'x'",
                "alter role limited set lock_timeout = '7s'",
                "alter role limited set statement_timeout = '11s'");
    }

    @AfterEach
    void close() {
        proxy.delay(Duration.ZERO);
    }

    private DefaultAdvisoryLocks client(String user) {
        DefaultAdvisoryLocks locks = clients.open(
                new PostgresqlConnectionFactory(server.configuration()
                        .host(proxy.host())
                        .port(proxy.port())
                        .username(user)
                        .password(user.equals("limited") ? "x" : "postgres")
                        .build()),
                builder -> builder.maxConnections(2));
        warm(locks, 2);
        for (int i = 0; i < 20; i++) {
            locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE);
        }
        proxy.delay(Duration.ofMillis(50));
        return locks;
    }

    /** The best of several cycles, each right behind the one before: a busy machine only ever adds to a time. */
    private static void assertRoundTrips(double expected, Mono<?> cycle) {
        List<Double> seen = new ArrayList<>();
        do {
            long start = System.nanoTime();
            cycle.block(PATIENCE);
            seen.add(since(start).toNanos() / 1e6 / ROUND_TRIP_MILLIS);
        } while (seen.size() < 3 || (seen.size() < 20 && Collections.min(seen) > expected + 0.1));
        assertThat(Collections.min(seen)).as("best of %s", seen).isBetween(expected, expected + 0.1);
    }

    @Test
    void lockAndCommit_areTwo_howeverTheRequestIsMade() {
        DefaultAdvisoryLocks locks = client("postgres");
        Mono<Integer> work = Mono.just(1);
        assertRoundTrips(2, locks.withAdvisoryLock(A, work));
        assertRoundTrips(2, locks.exclusive(A).waitAtMost(PATIENCE).guard(work));
        assertRoundTrips(2, locks.exclusive(A, B, C).guard(work));
        assertRoundTrips(2, locks.exclusive(A, B, C).waitAtMost(PATIENCE).guard(work));
        assertRoundTrips(2, locks.shared(A).guard(work));
        assertRoundTrips(2, locks.tryWithAdvisoryLock(A, work));
        assertRoundTrips(2, locks.exclusive(A).acquire().flatMap(HeldLock::release));
    }

    @Test
    void limitsOfTheRole_costNothing_andAreThereForTheWork() {
        DefaultAdvisoryLocks locks = client("limited");
        assertRoundTrips(2, locks.withAdvisoryLock(A, Mono.just(1)));
        assertRoundTrips(2, locks.exclusive(A).waitAtMost(PATIENCE).guard(Mono.just(1)));

        Mono<String> limits = locks.exclusive(A, B)
                .waitAtMost(PATIENCE)
                .guard((HeldLock hold) -> Mono.from(hold.connection()
                                .createStatement(
                                        "select current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')")
                                .execute())
                        .flatMap(result -> Mono.from(result.map(row -> row.get(0, String.class)))));
        assertThat(limits.block(PATIENCE)).isEqualTo("7s 11s");
    }

    @Test
    void statementsOfTheWork_areAllThatTheyAdd_cleaningCostsNobodyAnything() {
        DefaultAdvisoryLocks locks = client("postgres");
        LockRequest request = locks.exclusive(A);
        assertRoundTrips(3, request.guard((HeldLock hold) -> execute(hold, "set work_mem = '1MB'")));
        assertRoundTrips(4, request.guard((HeldLock hold) -> execute(hold, "select 1")
                .then(execute(hold, "create temporary table left_over (id int)"))));
        assertRoundTrips(
                5,
                request.guard((HeldLock hold) -> execute(hold, "select 1"))
                        .then(locks.withAdvisoryLock(A, Mono.just(1))));
        assertRoundTrips(
                3,
                request.guard((HeldLock hold) -> execute(hold, "select 1/0"))
                        .onErrorComplete());
    }
}
