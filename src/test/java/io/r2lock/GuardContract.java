package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;
import reactor.test.StepVerifier;

/**
 * What guarded work and its caller may rely on, in whatever scope: what is told while the lock is held, and what when it is free.
 *
 * <p>The client is 10 ms away from the server and the test is not: so a signal that comes before the server has answered the
 * release is seen to come while the lock is held.
 */
abstract class GuardContract {

    static final LockKey KEY = LockKey.named("contract", "row");

    private static final Duration AWAY = Duration.ofMillis(10);

    final TestServer server;
    private final UnaryOperator<LockRequest> scope;
    private final TcpProxy proxy;

    // closed last of all
    @RegisterExtension
    @Order(0)
    final AfterEachCallback network;

    @RegisterExtension
    @Order(1)
    final TestClients clients;

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    private DefaultAdvisoryLocks far;

    @SuppressWarnings("NullAway.Init")
    GuardContract(TestServer server, UnaryOperator<LockRequest> scope) {
        this.server = server;
        this.scope = scope;
        proxy = TcpProxy.to(server).delay(AWAY);
        network = context -> {
            // it resets what is open
            Await.until("connections closed", () -> proxy.open() == 0);
            proxy.close();
        };
        residue = NoResidue.on(server);
        clients = new TestClients(residue);
    }

    @BeforeEach
    void openFarClient() {
        proxy.start();
        far = clients.open(
                new PostgresqlConnectionFactory(server.configuration()
                        .host(proxy.host())
                        .port(proxy.port())
                        .build()),
                builder -> {});
    }

    final DefaultAdvisoryLocks far() {
        return far;
    }

    final LockRequest exclusive(LockKey key, LockKey... more) {
        return scope.apply(far.exclusive(key, more));
    }

    final LockRequest shared(LockKey key, LockKey... more) {
        return scope.apply(far.shared(key, more));
    }

    /** How many locks the server has granted, now. */
    final long held() {
        return server.count("select count(*) from pg_locks where locktype = 'advisory' and granted");
    }

    /** The same, off the event loop. */
    final Mono<Long> heldNow() {
        return Mono.fromSupplier(this::held).subscribeOn(Schedulers.boundedElastic());
    }

    @Test
    void mono_emitsWhenTheReleaseIsAnswered() {
        List<Long> seen = exclusive(KEY)
                .guard(heldNow())
                .publishOn(Schedulers.boundedElastic())
                .map(during -> List.of(during, held()))
                .block(PATIENCE);
        assertThat(seen).containsExactly(1L, 0L);
    }

    @Test
    void flux_emitsWhileTheLockIsHeld_andCompletesWhenTheReleaseIsAnswered() {
        for (Flux<Integer> call :
                List.of(exclusive(KEY).guard(Flux.just(1, 2)), exclusive(KEY).guardMany(hold -> Flux.just(1, 2)))) {
            StepVerifier.create(call, 1)
                    .expectNext(1)
                    .then(() -> assertThat(held()).isEqualTo(1))
                    .thenRequest(1)
                    .expectNext(2)
                    .expectComplete()
                    .verify(PATIENCE);
            assertThat(held()).isZero();
        }
    }

    @Test
    void next_andTakeOne_ofAFlux_giveTheLockBack() {
        Flux<Integer> call = exclusive(KEY).guard(Flux.just(1, 2).concatWith(Flux.never()));
        assertThat(call.next().block(PATIENCE)).isEqualTo(1);
        residue.check();
        assertThat(call.take(1).blockLast(PATIENCE)).isEqualTo(1);
        residue.check();
    }

    @Test
    void emptyWork_completesEmpty_whenTheReleaseIsAnswered() {
        StepVerifier.create(exclusive(KEY).guard(Mono.empty())).expectComplete().verify(PATIENCE);
        assertThat(held()).isZero();
        StepVerifier.create(exclusive(KEY).guardMany(hold -> Mono.empty()))
                .expectComplete()
                .verify(PATIENCE);
        assertThat(held()).isZero();
    }

    @Test
    void backpressure_passesThroughAFlux() {
        Queue<Long> requested = new ConcurrentLinkedQueue<>();
        Flux<Integer> work = Flux.range(1, 1_000).doOnRequest(requested::add);

        StepVerifier.create(exclusive(KEY).guard(work), 0)
                .thenRequest(3)
                .expectNext(1, 2, 3)
                .thenRequest(2)
                .expectNext(4, 5)
                .then(() ->
                        assertThat(requested.stream().mapToLong(n -> n).sum()).isEqualTo(5))
                .thenCancel()
                .verify(PATIENCE);
    }

    @Test
    void mono_waitsForItsRequest_butEndsTheHoldBefore() {
        CompletableFuture<Long> worked = new CompletableFuture<>();
        StepVerifier.create(exclusive(KEY).guard(heldNow().doOnNext(worked::complete)), 0)
                .then(() -> assertThat(worked).succeedsWithin(PATIENCE).isEqualTo(1L))
                .then(() -> Await.until("released", () -> held() == 0))
                .thenRequest(1)
                .expectNext(1L)
                .expectComplete()
                .verify(PATIENCE);
    }

    @Test
    void errorOfTheWork_passesThroughUntouched_whenTheReleaseIsAnswered() {
        IllegalStateException error = new IllegalStateException("of the work");

        assertThatThrownBy(() -> exclusive(KEY).guard(Mono.error(error)).block(PATIENCE))
                .isSameAs(error);
        assertThat(held()).isZero();
        StepVerifier.create(exclusive(KEY).guard(Flux.just(1).concatWith(Mono.error(error))))
                .expectNext(1)
                .expectErrorSatisfies(seen -> assertThat(seen).isSameAs(error))
                .verify(PATIENCE);
        assertThat(held()).isZero();
    }

    @Test
    void functionThatThrowsOrReturnsNull_givesTheLockBack() {
        IllegalStateException thrown = new IllegalStateException("thrown");
        Function<HeldLock, Mono<Integer>> throwing = hold -> {
            throw thrown;
        };
        assertThatThrownBy(() -> exclusive(KEY).guard(throwing).block(PATIENCE)).isSameAs(thrown);
        assertThat(held()).isZero();
        assertThatThrownBy(() -> exclusive(KEY).guard(GuardContract::broken).block(PATIENCE))
                .isInstanceOf(NullPointerException.class)
                .hasMessageContaining("returned null");
        assertThat(held()).isZero();
        assertThatThrownBy(() -> exclusive(KEY).guardMany(GuardContract::broken).blockLast(PATIENCE))
                .isInstanceOf(NullPointerException.class)
                .hasMessageContaining("returned null");
        assertThat(held()).isZero();
        assertThat(exclusive(KEY).guard(Mono.just(1)).block(PATIENCE)).isEqualTo(1);
    }

    @SuppressWarnings("NullAway") // what a user's function should not do
    private static Mono<Integer> broken(HeldLock hold) {
        return null;
    }

    @Test
    void everySubscription_locksAnew() {
        Mono<Long> call = exclusive(KEY).guard(heldNow());
        Mono<Long> between = heldNow();
        assertThat(held()).isZero();

        assertThat(Flux.concat(call, between, call, between, call).collectList().block(PATIENCE))
                .isEqualTo(List.of(1L, 0L, 1L, 0L, 1L));
    }

    @Test
    void cancelDuringTheWork_cancelsIt_andGivesTheLockBack() {
        CompletableFuture<Boolean> started = new CompletableFuture<>();
        CompletableFuture<Boolean> cancelled = new CompletableFuture<>();
        Disposable call = exclusive(KEY)
                .guard(Mono.never()
                        .doOnSubscribe(subscription -> started.complete(true))
                        .doOnCancel(() -> cancelled.complete(true)))
                .subscribe();
        assertThat(started).succeedsWithin(PATIENCE);
        call.dispose();
        assertThat(cancelled).isCompleted();
        residue.check();
    }

    @Test
    void acquiredHold_commitsOnce_andIsReleasedByIt() {
        HeldLock hold = acquire(exclusive(KEY));
        CompletableFuture<Void> lost = hold.lost().toFuture();
        assertThat(held()).isEqualTo(1);
        assertThat(lost).isNotDone();

        hold.commit().block(PATIENCE);
        assertThat(held()).isZero();
        assertThat(lost).succeedsWithin(PATIENCE);

        HeldLock next = acquire(exclusive(KEY));
        hold.commit().block(PATIENCE);
        release(hold);
        assertThat(held()).as("the next hold is not ended").isEqualTo(1);
        release(next);
    }

    @Test
    void acquiredHold_isReleased_andCommitAfterwardsErrors() {
        HeldLock hold = acquire(exclusive(KEY));
        assertThat(hold.guard(Mono.just(1)).block(PATIENCE)).isEqualTo(1);
        CompletableFuture<Void> lost = hold.lost().toFuture();
        release(hold);
        assertThat(held()).isZero();
        assertThat(lost).succeedsWithin(PATIENCE);
        release(hold);

        assertThatThrownBy(() -> hold.commit().block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("was released before")
                .hasMessageContaining(KEY.toString());
        assertThatThrownBy(() -> hold.guard(Mono.just(1)).block(PATIENCE)).isInstanceOf(LockLostException.class);
    }

    @Test
    void usingWhen_givesTheLockBack_howeverTheWorkEnds() {
        IllegalStateException error = new IllegalStateException("of the work");
        assertThat(Mono.usingWhen(exclusive(KEY).acquire(), hold -> heldNow(), HeldLock::release)
                        .block(PATIENCE))
                .isEqualTo(1);
        assertThat(held()).isZero();
        assertThatThrownBy(() -> Mono.usingWhen(exclusive(KEY).acquire(), hold -> Mono.error(error), HeldLock::release)
                        .block(PATIENCE))
                .isSameAs(error);
        assertThat(held()).isZero();
        assertThatThrownBy(() -> Mono.usingWhen(
                                exclusive(KEY).acquire(),
                                hold -> Mono.error(error),
                                HeldLock::commit,
                                (hold, thrown) -> hold.release(),
                                HeldLock::release)
                        .block(PATIENCE))
                .isSameAs(error);
        assertThat(held()).isZero();
    }
}
