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
    LockingContract(TestServer server) {
        this.server = server;
        sessions = new Sessions(server);
        residue = NoResidue.on(server);
        clients = new TestClients(residue);
    }

    @BeforeEach
    void setUp() {
        here = clients.open(server);
        there = clients.open(server);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    @Test
    void exclusive_excludesBothModes_hereAndThere() {
        HeldLock hold = acquire(here.exclusive(A));
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertBusy(client.exclusive(A));
            assertBusy(client.shared(A));
            assertFree(client.exclusive(B));
        }
        release(hold);
        assertFree(here.exclusive(A));
        assertFree(there.shared(A));
    }

    @Test
    void shared_admitsShared_andExcludesExclusive_hereAndThere() {
        HeldLock hold = acquire(here.shared(A));
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertFree(client.shared(A));
            assertBusy(client.exclusive(A));
        }
        HeldLock second = acquire(here.shared(A));
        HeldLock third = acquire(there.shared(A));
        assertThat(sessions.held()).isEqualTo(3);
        release(hold);
        release(second);
        assertBusy(here.exclusive(A));
        release(third);
        assertFree(here.exclusive(A));
    }

    @Test
    void waiting_isServedWhenTheHolderEnds_hereAndThere() {
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            HeldLock hold = acquire(here.exclusive(A));
            CompletableFuture<Integer> waiting =
                    client.withAdvisoryLock(A, Mono.just(1)).toFuture();
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
                .flatMap(i -> (i % 2 == 0 ? here : there).withAdvisoryLock(A, work), 200)
                .blockLast(PATIENCE);
        assertThat(most).hasValue(1);
    }

    @Test
    void severalKeys_areAllOrNothing() {
        HeldLock hold = acquire(there.exclusive(C));
        assertBusy(here.exclusive(A, B, C));
        assertThat(sessions.held()).isEqualTo(1);
        assertThatThrownBy(() -> acquire(here.exclusive(A, B, C).waitAtMost(Duration.ofMillis(100))))
                .isInstanceOf(LockTimeoutException.class);
        assertThat(sessions.held()).isEqualTo(1);
        release(hold);

        HeldLock all = acquire(here.exclusive(List.of(C, A, B, A, C)));
        assertThat(all.keys()).containsExactly(A, B, C);
        assertThat(sessions.held()).isEqualTo(3);
        assertBusy(there.exclusive(B));
        release(all);
        assertThat(sessions.held()).isZero();
    }

    @Test
    void severalKeys_inAnyOrder_neverDeadlock() {
        List<LockRequest> requests =
                List.of(here.exclusive(A, B, C), here.exclusive(C, B, A), there.exclusive(B, A), there.exclusive(C, A));
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
        HeldLock hold = acquire(here.exclusive(keys));
        HeldLock shared = acquire(here.shared(LockKey.of(7)));

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
        assertBusy(here.exclusive(A));
        assertBusy(here.shared(A));
    }

    @Test
    void noWait_andTry_failWithNotAvailable_andSkipCompletesEmpty() {
        HeldLock hold = acquire(there.exclusive(A));
        for (DefaultAdvisoryLocks client : List.of(here, there)) {
            assertBusy(client.exclusive(A));
            assertThatThrownBy(() -> client.tryWithAdvisoryLock(A, Mono.just(1)).block(PATIENCE))
                    .isInstanceOf(LockNotAvailableException.class);
            assertThatThrownBy(() -> client.tryWithAdvisoryLock(A, (Publisher<Integer>) Flux.just(1))
                            .blockLast(PATIENCE))
                    .isInstanceOf(LockNotAvailableException.class);
            LockRequest skipping = client.exclusive(A).skipIfBusy();
            StepVerifier.create(skipping.guard(Mono.just(1))).verifyComplete();
            StepVerifier.create(skipping.guard(Flux.just(1))).verifyComplete();
            StepVerifier.create(skipping.acquire()).verifyComplete();
        }
        release(hold);
        assertThat(here.tryWithAdvisoryLock(A, Mono.just(1)).block(PATIENCE)).isEqualTo(1);
        assertThat(here.tryWithAdvisoryLock(A, (Publisher<Integer>) Flux.just(1))
                        .blockLast(PATIENCE))
                .isEqualTo(1);
        assertThat(here.exclusive(A).skipIfBusy().guard(Mono.just(1)).block(PATIENCE))
                .isEqualTo(1);
    }

    @Test
    void holdTellsItsKeysModeAndBackend() {
        HeldLock hold = acquire(here.shared(B, A));
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
        HeldLock hold = acquire(there.exclusive(named));

        LockNotAvailableException busy = catchThrowableOfType(
                LockNotAvailableException.class,
                () -> here.shared(named, A).noWait().acquire().block(PATIENCE));
        assertThat(busy.keys()).containsExactlyInAnyOrder(named, A);
        assertThat(busy.mode()).isEqualTo(LockMode.SHARED);
        assertThat(busy.waited()).isBetween(Duration.ZERO, PATIENCE);
        assertThat(busy.sqlState()).isNull();
        assertThat(busy.getStackTrace()).isEmpty();
        assertThat(busy).hasMessageContaining(named.toString()).hasMessageContaining("shared");

        LockTimeoutException late = catchThrowableOfType(
                LockTimeoutException.class, () -> acquire(here.exclusive(named).waitAtMost(Duration.ofMillis(100))));
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
                catchThrowableOfType(LockServerException.class, () -> acquire(pauper.exclusive(A)));
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
