package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.since;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * What a cycle costs where it matters: on a network of 100 ms there and back.
 *
 * <p>The unit is what a bare driver connection needs, through the same proxy, for one message and its answer.
 */
class RoundTripIT {

    private static final LockKey A = LockKey.of(4_001);
    private static final LockKey B = LockKey.of(4_002);
    private static final LockKey C = LockKey.of(4_003);

    private final TestServer server = TestServer.newest();
    private final TcpProxy proxy = TcpProxy.to(server).start();
    private double roundTrip;

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
        residue.check();
        proxy.close();
    }

    private DefaultAdvisoryLocks client(String user) {
        PostgresqlConnectionConfiguration.Builder configuration =
                server.configuration().host(proxy.host()).port(proxy.port());
        if (user.equals("limited")) {
            configuration.username(user).password("x");
        }
        PostgresqlConnectionFactory factory = new PostgresqlConnectionFactory(configuration.build());
        DefaultAdvisoryLocks locks = clients.open(factory, builder -> builder.maxConnections(2));
        warm(locks, 2);
        for (int i = 0; i < 20; i++) {
            locks.withAdvisoryLock(A, Mono.just(1)).block(PATIENCE);
        }
        PostgresqlConnection bare = Objects.requireNonNull(factory.create().block(PATIENCE));
        proxy.delay(Duration.ofMillis(50));
        roundTrip = best(9, Double.NEGATIVE_INFINITY, Sessions.send(bare, "begin; select 1; rollback"));
        assertThat(roundTrip).isGreaterThanOrEqualTo(100);
        bare.close().block(PATIENCE);
        return locks;
    }

    /** The best time of several, in milliseconds, each right behind the one before: a busy machine only ever adds. */
    private static double best(int most, double good, Mono<?> call) {
        double best = Double.POSITIVE_INFINITY;
        for (int i = 0; i < most && best > good; i++) {
            long start = System.nanoTime();
            call.block(PATIENCE);
            best = Math.min(best, since(start).toNanos() / 1e6);
        }
        return best;
    }

    private void assertRoundTrips(double expected, Mono<?> cycle) {
        double seen = best(15, (expected + 0.05) * roundTrip, cycle) / roundTrip;
        assertThat(seen).isBetween(expected - 0.1, expected + 0.1);
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

    /** One for the first lock, and one for each COMMIT, with which the next lock travels. */
    @Test
    void waitersOfOneKey_areOneEach_andOneForAll() {
        DefaultAdvisoryLocks locks = client("postgres");
        int waiters = 8;
        Mono<Long> chain = Flux.range(0, waiters)
                .flatMap(i -> locks.withAdvisoryLock(A, Mono.just(i)), waiters)
                .count();
        assertThat(chain.block(PATIENCE)).isEqualTo(waiters);
        double seen = best(8, (waiters + 1.1) * roundTrip, chain) / roundTrip;
        assertThat(seen).isBetween(waiters + 0.9, waiters + 1.4);
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
        assertRoundTrips(
                4,
                request.guard((HeldLock hold) ->
                        execute(hold, "select 1").then(execute(hold, "create temporary table left_over (id int)"))));
        assertRoundTrips(
                5,
                request.guard((HeldLock hold) -> execute(hold, "select 1"))
                        .then(locks.withAdvisoryLock(A, Mono.just(1))));
    }

    @Test
    void checkBeforeCommit_travelsWithIt_andThatOfANestedHold_onlyWhereSqlMayHaveFreedIt() {
        server.execute("drop table if exists round_trips", "create table round_trips (id int)");
        DefaultAdvisoryLocks locks = client("postgres");
        String insert = "insert into round_trips values (1)";
        assertRoundTrips(3, locks.exclusive(A, B, C).guard((HeldLock hold) -> execute(hold, insert)));
        assertRoundTrips(
                4,
                locks.exclusive(A)
                        .guard((HeldLock outer) -> locks.exclusive(B).guard((HeldLock hold) -> execute(hold, insert))));
        assertRoundTrips(
                5,
                locks.exclusive(A)
                        .guard((HeldLock outer) ->
                                locks.exclusive(B).guard((HeldLock hold) -> execute(hold, "select 'rollback'"))));
    }

    @Test
    void statementThatFails_costsNoMoreThanOneThatDoesNot() {
        DefaultAdvisoryLocks locks = client("postgres");
        int connections = proxy.connections();
        assertRoundTrips(
                3,
                locks.exclusive(A)
                        .guard((HeldLock hold) -> execute(hold, "select 1/0"))
                        .onErrorComplete());
        assertThat(proxy.connections()).as("without a CancelRequest").isEqualTo(connections);
    }
}
