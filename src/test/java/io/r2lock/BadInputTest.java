package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.h2.H2ConnectionConfiguration;
import io.r2dbc.h2.H2ConnectionFactory;
import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.spi.ConnectionFactory;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.function.Function;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** A bad argument is refused when it is given, by name and value. */
@SuppressWarnings("NullAway") // nulls are what is passed in
class BadInputTest {

    private static final LockKey KEY = LockKey.of(1);

    private final ConnectionFactory factory =
            new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
                    .host("localhost")
                    .username("nobody")
                    .build());
    private final AdvisoryLocks locks = AdvisoryLocks.create(factory);

    @AfterEach
    void close() {
        locks.close().block(Duration.ofSeconds(10));
    }

    private AdvisoryLocks.Builder builder() {
        return AdvisoryLocks.builder(factory);
    }

    private static void refused(ThrowingCallable call, String... parts) {
        assertThatThrownBy(call).isInstanceOf(IllegalArgumentException.class).hasMessageContainingAll(parts);
    }

    @Test
    void nullKeys() {
        Mono<Integer> mono = Mono.just(1);
        Publisher<Integer> publisher = Flux.just(1);
        refused(() -> locks.withAdvisoryLock(null, mono), "key must not be null");
        refused(() -> locks.withAdvisoryLock(null, publisher), "key must not be null");
        refused(() -> locks.tryWithAdvisoryLock(null, mono), "key must not be null");
        refused(() -> locks.tryWithAdvisoryLock(null, publisher), "key must not be null");
        refused(() -> locks.exclusive((LockKey) null), "key must not be null");
        refused(() -> locks.shared((LockKey) null), "key must not be null");
        refused(() -> locks.exclusive(KEY, (LockKey[]) null), "more must not be null");
        refused(() -> locks.shared(KEY, KEY, null), "more must not contain null", "null]");
        refused(() -> locks.exclusive((Collection<LockKey>) null), "keys must not be null");
        refused(() -> locks.exclusive(List.of()), "keys must not be empty", "[]");
        refused(() -> locks.shared(Arrays.asList(KEY, null)), "keys must not contain null", "null]");
    }

    @Test
    void nullWork() {
        LockRequest request = locks.exclusive(KEY);
        refused(() -> locks.withAdvisoryLock(KEY, (Mono<Integer>) null), "work must not be null");
        refused(() -> locks.withAdvisoryLock(KEY, (Publisher<Integer>) null), "work must not be null");
        refused(() -> locks.tryWithAdvisoryLock(KEY, (Mono<Integer>) null), "work must not be null");
        refused(() -> locks.tryWithAdvisoryLock(KEY, (Publisher<Integer>) null), "work must not be null");
        refused(() -> request.guard((Mono<Integer>) null), "work must not be null");
        refused(() -> request.guard((Flux<Integer>) null), "work must not be null");
        refused(() -> request.guard((Function<HeldLock, Mono<Integer>>) null), "work must not be null");
        refused(() -> request.guardMany((Function<HeldLock, Flux<Integer>>) null), "work must not be null");
    }

    @Test
    void waits() {
        LockRequest request = locks.exclusive(KEY);
        Duration absurd = Duration.ofSeconds(Long.MAX_VALUE);
        for (Duration wait : List.of(Duration.ZERO, Duration.ofMillis(-1), Duration.ofDays(25), absurd)) {
            refused(() -> request.waitAtMost(wait), "wait must be", "was " + wait);
            refused(() -> builder().defaultWait(wait), "defaultWait must be", "was " + wait);
        }
        refused(() -> request.waitAtMost(null), "wait must not be null");
        refused(() -> builder().defaultWait(null), "defaultWait must not be null");
        assertThat(request.waitAtMost(Duration.ofNanos(1)).toString()).contains("PT0.000000001S");
        assertThat(request.waitAtMost(Duration.ofDays(24))).isNotNull();
    }

    @Test
    void holds() {
        LockRequest request = locks.exclusive(KEY);
        Duration absurd = Duration.ofSeconds(Long.MAX_VALUE);
        Duration justTooLong = Duration.ofDays(24).plusNanos(1);
        for (Duration hold : List.of(Duration.ZERO, Duration.ofMillis(-1), justTooLong, absurd)) {
            refused(() -> request.holdAtMost(hold), "hold must be", "24 days", "was " + hold);
        }
        refused(() -> request.holdAtMost(null), "hold must not be null");
        assertThat(request.holdAtMost(Duration.ofNanos(1))).isNotNull();
        assertThat(request.holdAtMost(Duration.ofDays(24))).isNotNull();
    }

    @Test
    void holdsAtLeast() {
        LockRequest request = locks.exclusive(KEY).inSession();
        Duration justTooLong = Duration.ofDays(24).plusNanos(1);
        for (Duration hold : List.of(Duration.ZERO, Duration.ofMillis(-1), justTooLong)) {
            refused(() -> request.holdAtLeast(hold), "hold must be", "24 days", "was " + hold);
        }
        refused(() -> request.holdAtLeast(null), "hold must not be null");
        Duration second = Duration.ofSeconds(1);
        Duration more = second.plusNanos(1);
        refused(
                () -> request.holdAtMost(second).holdAtLeast(more),
                "holdAtLeast longer than holdAtMost",
                "was " + more);
        refused(() -> request.holdAtLeast(more).holdAtMost(second), "holdAtLeast longer", "was " + second, more + ",");
        assertThat(request.holdAtMost(second).holdAtLeast(second).toString()).contains("at least PT1S", "at most PT1S");
        assertThat(locks.permit(KEY, 2).holdAtLeast(second).guard(Mono.just(1))).isNotNull();
    }

    @Test
    void holdAtLeast_inTransactionScope() {
        LockRequest request = locks.exclusive(KEY).holdAtLeast(Duration.ofSeconds(1));
        String[] parts = {"holdAtLeast", "was PT1S", "inSession()"};
        refused(() -> request.guard(Mono.just(1)), parts);
        refused(() -> request.guard(Flux.just(1)), parts);
        refused(() -> request.guard((HeldLock hold) -> Mono.just(1)), parts);
        refused(() -> request.guardMany((HeldLock hold) -> Flux.just(1)), parts);
        refused(request::acquire, parts);
        assertThat(request.inSession().acquire()).isNotNull();
    }

    @Test
    void durationsOfTheBuilder() {
        Duration absurd = Duration.ofSeconds(Long.MAX_VALUE);
        Duration negative = Duration.ofMillis(-1);
        for (Duration bad : List.of(negative, absurd)) {
            refused(() -> builder().connectTimeout(bad), "connectTimeout must be", "was " + bad);
            refused(() -> builder().closeGrace(bad), "closeGrace must be", "was " + bad);
            refused(() -> builder().holdWarning(bad), "holdWarning must be", "was " + bad);
        }
        refused(() -> builder().connectTimeout(Duration.ZERO), "connectTimeout must be", "was PT0S");
        refused(() -> builder().connectTimeout(null), "connectTimeout must not be null");
        refused(() -> builder().closeGrace(null), "closeGrace must not be null");
        refused(() -> builder().holdWarning(null), "holdWarning must not be null");
    }

    @Test
    void countsOfTheBuilder() {
        for (int bad : new int[] {0, -1, 10_001, Integer.MIN_VALUE}) {
            refused(() -> builder().maxConnections(bad), "maxConnections must be from 1 to 10000", "was " + bad);
        }
        refused(() -> builder().maxWaiters(0), "maxWaiters must be", "was 0");
        for (int bad : new int[] {0, -1, 1_001, Integer.MIN_VALUE}) {
            refused(() -> builder().sessionConnections(bad), "sessionConnections must be from 1 to 1000", "was " + bad);
        }
        for (int bad : new int[] {0, -1, 10_001, Integer.MIN_VALUE}) {
            refused(() -> builder().waitingConnections(bad), "waitingConnections must be from 1", "was " + bad);
        }
        for (int bad : new int[] {0, -1, Integer.MIN_VALUE}) {
            refused(() -> builder().handOffLimit(bad), "handOffLimit must be", "was " + bad);
        }
    }

    @Test
    void permits() {
        for (int bad : new int[] {0, -1, 1_001, Integer.MIN_VALUE}) {
            refused(() -> locks.permit(KEY, bad), "permits must be from 1 to 1000", "was " + bad);
        }
        refused(() -> locks.permit(null, 1), "key must not be null");
        LockRequest request = locks.permit(KEY, 1_000);
        refused(request::inTransaction, "scope must be inSession()", "was inTransaction()", KEY.toString());
        assertThat(request.inSession().polling().toString()).contains("one of 1000", KEY.toString());
    }

    @Test
    void elections() {
        refused(() -> locks.leaderElection(null), "key must not be null");
        refused(() -> locks.leaderElection(KEY).lead(null), "work must not be null");
        assertThat(locks.leaderElection(KEY)).hasToString("LeaderElection[" + KEY + "]");
    }

    @Test
    void settingsOfTheBuilder() {
        for (String bad : List.of("", "a b", "a;b", "a'b", "1a", "a.", "x--", "é")) {
            refused(() -> builder().connectionSetting(bad, "1"), "connectionSetting name", "was " + bad);
        }
        refused(() -> builder().connectionSetting("lock_timeout", "1"), "connectionSetting name", "lock_timeout");
        refused(() -> builder().connectionSetting("Statement_Timeout", "1"), "connectionSetting name");
        refused(() -> builder().connectionSetting("search_path", "a\0b"), "connectionSetting value", "search_path");
        refused(() -> builder().connectionSetting(null, "1"), "connectionSetting name must not be null");
        refused(() -> builder().connectionSetting("search_path", null), "connectionSetting value must not be null");
    }

    @Test
    void namesAndPartsOfTheBuilder() {
        for (String bad : List.of("", "é", "a\nb", "x".repeat(64))) {
            refused(() -> builder().applicationName(bad), "applicationName must be", "was " + bad);
        }
        refused(() -> builder().applicationName(null), "applicationName must not be null");
        refused(() -> builder().workScheduler(null), "workScheduler must not be null");
        refused(() -> builder().listener(null), "listener must not be null");
    }

    @Test
    void connectionFactories() {
        ConnectionFactory h2 = new H2ConnectionFactory(
                H2ConnectionConfiguration.builder().inMemory("bad").build());
        refused(() -> AdvisoryLocks.create(null), "connectionFactory must not be null");
        refused(() -> AdvisoryLocks.create(h2), "connectionFactory must be one of r2dbc-postgresql", "H2");
        ConnectionPool pool =
                new ConnectionPool(ConnectionPoolConfiguration.builder(h2).build());
        refused(() -> AdvisoryLocks.builder(pool), "connectionFactory must be one of r2dbc-postgresql");
        pool.disposeLater().block(Duration.ofSeconds(10));
    }
}
