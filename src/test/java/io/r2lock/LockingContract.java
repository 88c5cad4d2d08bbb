package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;

/** Who excludes whom, on which keys, and what a refusal says. Two clients stand for two processes. */
abstract class LockingContract {

    private static final LockKey A = LockKey.of(1_001);
    private static final LockKey B = LockKey.of(1_002);
    private static final LockKey C = LockKey.of(1_003);

    private final TestServer server;
    private final UnaryOperator<LockRequest> scope;
    private final Sessions sessions;

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    @RegisterExtension
    @Order(1)
    final TestClients clients;

    private DefaultAdvisoryLocks here;
    private DefaultAdvisoryLocks there;

    @SuppressWarnings("NullAway.Init")
    LockingContract(TestServer server, UnaryOperator<LockRequest> scope) {
        this.server = server;
        this.scope = scope;
        sessions = new Sessions(server);
        residue = NoResidue.on(server);
        clients = new TestClients(residue);
    }

    @BeforeEach
    void setUp() {
        here = clients.open(server);
        there = clients.open(server);
    }

    private LockRequest exclusive(DefaultAdvisoryLocks client, LockKey key, LockKey... more) {
        return scope.apply(client.exclusive(key, more));
    }

    private LockRequest exclusive(DefaultAdvisoryLocks client, List<LockKey> keys) {
        return scope.apply(client.exclusive(keys));
    }

    private LockRequest shared(DefaultAdvisoryLocks client, LockKey key, LockKey... more) {
        return scope.apply(client.shared(key, more));
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    @Test
    void exclusive_excludesBothModes_hereAndThere() {
        HeldLock hold = acquire(exclusive(here, A));
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertBusy(exclusive(client, A));
            assertBusy(shared(client, A));
            assertFree(exclusive(client, B));
        }
        release(hold);
        assertFree(exclusive(here, A));
        assertFree(shared(there, A));
    }

    @Test
    void shared_admitsShared_andExcludesExclusive_hereAndThere() {
        HeldLock hold = acquire(shared(here, A));
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertFree(shared(client, A));
            assertBusy(exclusive(client, A));
        }
        HeldLock second = acquire(shared(here, A));
        HeldLock third = acquire(shared(there, A));
        // in session scope the second one here shares the lock of the first
        boolean shares = hold.backendPid() == second.backendPid();
        assertThat(sessions.held()).isEqualTo(shares ? 2 : 3);
        release(hold);
        release(second);
        assertBusy(exclusive(here, A));
        release(third);
        assertFree(exclusive(here, A));
    }

    @Test
    void waiting_isServedWhenTheHolderEnds_hereAndThere() {
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            HeldLock hold = acquire(exclusive(here, A));
            CompletableFuture<Integer> waiting =
                    exclusive(client, A).guard(Mono.just(1)).toFuture();
            Await.until("waiting", () -> client == here || sessions.waiting() == 1);
            assertThat(waiting).isNotDone();
            release(hold);
            assertThat(waiting).succeedsWithin(PATIENCE).isEqualTo(1);
        }
    }

    @Test
    void oneHolderAtATime_underContention() {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        Mono<Integer> work = Mono.fromSupplier(() -> most.accumulateAndGet(inside.incrementAndGet(), Math::max))
                .delayElement(Duration.ofMillis(1))
                .doOnNext(last -> inside.decrementAndGet());
        Flux.range(0, 200)
                .flatMap(i -> exclusive(i % 2 == 0 ? here : there, A).guard(work), 200)
                .blockLast(PATIENCE);
        assertThat(most).hasValue(1);
    }

    @Test
    void severalKeys_areAllOrNothing() {
        HeldLock hold = acquire(exclusive(there, C));
        assertBusy(exclusive(here, A, B, C));
        assertThat(sessions.held()).isEqualTo(1);
        assertThatThrownBy(() -> acquire(exclusive(here, A, B, C).waitAtMost(Duration.ofMillis(100))))
                .isInstanceOf(LockTimeoutException.class);
        assertThat(sessions.held()).isEqualTo(1);
        release(hold);

        HeldLock all = acquire(exclusive(here, List.of(C, A, B, A, C)));
        assertThat(all.keys()).containsExactly(A, B, C);
        assertThat(sessions.held()).isEqualTo(3);
        assertBusy(exclusive(there, B));
        release(all);
        assertThat(sessions.held()).isZero();
    }

    @Test
    void severalKeys_inAnyOrder_neverDeadlock() {
        List<LockRequest> requests = List.of(
                exclusive(here, A, B, C), exclusive(here, C, B, A), exclusive(there, B, A), exclusive(there, C, A));
        Long done = Flux.range(0, 200)
                .flatMap(i -> requests.get(i % 4).guard(Mono.just(i)), 50)
                .count()
                .block(PATIENCE);
        assertThat(done).isEqualTo(200);
    }

    @Test
    void keys_areSeenInPgLocks_asPostgresKnowsThem() {
        List<LockKey> keys =
                List.of(LockKey.of(-2), LockKey.of(0x1_0000_0002L), LockKey.of(-3, 4), LockKey.of(Long.MIN_VALUE));
        HeldLock hold = acquire(exclusive(here, keys));
        HeldLock shared = acquire(shared(here, LockKey.of(7)));

        assertThat(server.query("select classid::bigint as high, objid::bigint as low, objsubid::int as kind, mode"
                        + " from pg_locks where locktype = 'advisory' and pid in (" + hold.backendPid() + ", "
                        + shared.backendPid() + ")"))
                .containsExactlyInAnyOrder(
                        row(0xffff_ffffL, 0xffff_fffeL, 1, "ExclusiveLock"),
                        row(1, 2, 1, "ExclusiveLock"),
                        row(0xffff_fffdL, 4, 2, "ExclusiveLock"),
                        row(0x8000_0000L, 0, 1, "ExclusiveLock"),
                        row(0, 7, 1, "ShareLock"));
        release(hold);
        release(shared);
    }

    private static Map<String, Object> row(long high, long low, int kind, String mode) {
        return Map.of("high", high, "low", low, "kind", kind, "mode", mode);
    }

    @Test
    void bareSql_isExcludedToo() {
        TestClients.holdElsewhere(sessions, 1_001);
        assertBusy(exclusive(here, A));
        assertBusy(shared(here, A));
    }

    @Test
    void noWait_andTry_failWithNotAvailable_andSkipCompletesEmpty() {
        HeldLock hold = acquire(exclusive(there, A));
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertBusy(exclusive(client, A));
            assertThatThrownBy(() -> client.tryWithAdvisoryLock(A, Mono.just(1)).block(PATIENCE))
                    .isInstanceOf(LockNotAvailableException.class);
            assertThatThrownBy(() -> client.tryWithAdvisoryLock(A, (Publisher<Integer>) Flux.just(1))
                            .blockLast(PATIENCE))
                    .isInstanceOf(LockNotAvailableException.class);
            LockRequest skipping = exclusive(client, A).skipIfBusy();
            StepVerifier.create(skipping.guard(Mono.just(1))).verifyComplete();
            StepVerifier.create(skipping.guard(Flux.just(1))).verifyComplete();
            StepVerifier.create(skipping.acquire()).verifyComplete();
        }
        release(hold);
        assertThat(here.tryWithAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
        assertThat(here.tryWithAdvisoryLock(A, (Publisher<Integer>) Flux.just(1))
                        .blockLast(PATIENCE))
                .isEqualTo(1);
        assertThat(exclusive(here, A).skipIfBusy().guard(Mono.just(1)).block(PATIENCE))
                .isEqualTo(1);
    }

    @Test
    void holdTellsItsKeysModeAndBackend() {
        HeldLock hold = acquire(shared(here, B, A));
        assertThat(hold.keys()).containsExactly(A, B);
        assertThat(hold.mode()).isEqualTo(LockMode.SHARED);
        assertThat(server.count("select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock' and"
                        + " granted and pid = " + hold.backendPid()))
                .isEqualTo(2);
        release(hold);
    }

    @Test
    void refusal_tellsWhatWasAskedForAndHowLongItWaited() {
        LockKey named = LockKey.named("order", "42");
        HeldLock hold = acquire(exclusive(there, named));

        LockNotAvailableException busy = catchThrowableOfType(
                LockNotAvailableException.class,
                () -> shared(here, named, A).noWait().acquire().block(PATIENCE));
        assertThat(busy.keys()).containsExactlyInAnyOrder(named, A);
        assertThat(busy.mode()).isEqualTo(LockMode.SHARED);
        assertThat(busy.waited()).isBetween(Duration.ZERO, PATIENCE);
        assertThat(busy.sqlState()).isNull();
        assertThat(busy.getStackTrace()).isEmpty();
        assertThat(busy).hasMessageContaining(named.toString()).hasMessageContaining("shared");

        LockTimeoutException late = catchThrowableOfType(
                LockTimeoutException.class, () -> acquire(exclusive(here, named).waitAtMost(Duration.ofMillis(100))));
        assertThat(late.keys()).containsExactly(named);
        assertThat(late.mode()).isEqualTo(LockMode.EXCLUSIVE);
        assertThat(late.waited()).isBetween(Duration.ofMillis(100), Duration.ofMillis(300));
        assertThat(late).hasMessageContaining(named.toString()).hasMessageContaining("ms for the server's lock");
        assertThat(late.getStackTrace()).isEmpty();
        release(hold);
    }

    @Test
    void refusalOfTheServer_carriesItsStateAndItsError() {
        server.execute("drop role if exists pauper", "create role pauper login password 'x' connection limit 0");
        DefaultAdvisoryLocks pauper = clients.open(
                new io.r2dbc.postgresql.PostgresqlConnectionFactory(
                        server.configuration().username("pauper").password("x").build()),
                builder -> {});
        LockServerException refused =
                catchThrowableOfType(LockServerException.class, () -> acquire(exclusive(pauper, A)));
        assertThat(refused.sqlState()).isEqualTo("53300");
        assertThat(refused.keys()).containsExactly(A);
        assertThat(refused).hasMessageContaining(A.toString()).hasCauseInstanceOf(io.r2dbc.spi.R2dbcException.class);
    }

    private static void assertBusy(LockRequest request) {
        assertThatThrownBy(() -> request.noWait().acquire().block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class)
                .hasMessageContaining("Busy");
    }

    private static void assertFree(LockRequest request) {
        assertThat(request.noWait().guard(Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }
}
