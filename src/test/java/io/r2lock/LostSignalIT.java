package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.release;
import static io.r2lock.TestClients.warm;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Schedulers;

/** {@link HeldLock#lost()} and {@link LockListener#lost}: what ended against the holder's will, and nothing else. */
@Timeout(60)
class LostSignalIT {

    private static final Logger LOG = LoggerFactory.getLogger(LostSignalIT.class);
    private static final LockKey A = LockKey.of(10_601);
    private static final LockKey B = LockKey.of(10_602);

    private final TestServer server = TestServer.newest();
    private final Told told = new Told();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void prepare() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        locks = clients.open(server, builder -> builder.listener(told));
        warm(locks, 2);
    }

    private void terminate(HeldLock hold) {
        server.query("select pg_terminate_backend(" + hold.backendPid() + ")");
    }

    private static String end(Mono<?> mono) {
        return Objects.requireNonNull(mono.materialize()
                .map(signal -> signal.getThrowable() == null
                        ? "completes"
                        : signal.getThrowable().getClass().getSimpleName())
                .block(PATIENCE));
    }

    @Test
    void releaseAndCommit_completeIt_alsoForWhoComesLate() {
        for (boolean commit : new boolean[] {true, false}) {
            HeldLock hold = acquire(locks.exclusive(A));
            Mono<String> early = Mono.fromFuture(hold.lost().toFuture()).thenReturn("");
            Mono<Void> ended = commit ? hold.commit() : hold.release();
            ended.block(PATIENCE);
            assertThat(end(early)).isEqualTo("completes");
            assertThat(end(hold.lost())).isEqualTo("completes");
        }
        HeldLock[] guarded = new HeldLock[2];
        locks.exclusive(A)
                .guard((HeldLock outer) -> locks.exclusive(B).guard((HeldLock inner) -> {
                    guarded[0] = outer;
                    guarded[1] = inner;
                    return Mono.just(1);
                }))
                .block(PATIENCE);
        assertThat(end(guarded[0].lost())).isEqualTo("completes");
        assertThat(end(guarded[1].lost())).isEqualTo("completes");
        assertThat(told.lost).isEmpty();
    }

    @Test
    void failedWorkAndFailedCommit_areNoLoss() {
        HeldLock[] failed = new HeldLock[1];
        locks.exclusive(A)
                .guard((HeldLock hold) -> {
                    failed[0] = hold;
                    return Mono.error(new IllegalStateException("work"));
                })
                .onErrorComplete()
                .block(PATIENCE);
        assertThat(end(failed[0].lost())).isEqualTo("completes");
        HeldLock doomed = acquire(locks.exclusive(A));
        execute(doomed, "select 1/0").onErrorComplete().block(PATIENCE);
        assertThat(end(doomed.commit())).contains("Rollback");
        assertThat(end(doomed.lost())).isEqualTo("completes");
        assertThat(told.lost).isEmpty();
    }

    @Test
    void terminatedBackend_isToldOnce_toEachSubscriber_andOfJoinedHoldsToo() {
        HeldLock outer = acquire(locks.exclusive(A));
        HeldLock inner =
                Objects.requireNonNull(outer.guard(locks.exclusive(B).acquire()).block(PATIENCE));
        AtomicInteger canceled = new AtomicInteger();
        Disposable gone = outer.lost().subscribe(nothing -> {}, error -> canceled.incrementAndGet());
        gone.dispose();
        List<Mono<Void>> early = new ArrayList<>();
        for (HeldLock hold : List.of(outer, outer, inner, inner)) {
            early.add(Mono.fromFuture(hold.lost().toFuture()));
        }
        terminate(outer);
        early.forEach(lost -> assertThat(end(lost)).isEqualTo("LockLostException"));
        assertThat(end(outer.lost())).isEqualTo("LockLostException");
        assertThat(end(inner.lost())).isEqualTo("LockLostException");
        assertThat(end(outer.commit())).isEqualTo("LockLostException");
        assertThat(end(inner.commit())).isEqualTo("LockLostException");
        release(inner);
        release(outer);
        assertThat(canceled).hasValue(0);
        assertThat(told.lost).singleElement().satisfies(what -> assertThat(what).contains("10601"));
    }

    @Test
    void cancelOfASubscription_leavesTheHoldAsItIs_andNothingBehind() {
        HeldLock hold = acquire(locks.exclusive(A));
        List<WeakReference<Object>> subscribers = new ArrayList<>();
        for (int i = 0; i < 1_000; i++) {
            Object subscriber = new Object();
            subscribers.add(new WeakReference<>(subscriber));
            hold.lost()
                    .doOnTerminate(() -> LOG.info("not expected by {}", subscriber))
                    .subscribe()
                    .dispose();
        }
        Await.until("collected", () -> {
            System.gc();
            return subscribers.stream().allMatch(reference -> reference.get() == null);
        });
        execute(hold, "select 1").block(PATIENCE);
        hold.commit().block(PATIENCE);
    }

    @Test
    void tenThousandHolds_leaveNothingSubscribed() {
        int holds = 10_000;
        AtomicInteger completed = new AtomicInteger();
        AtomicInteger other = new AtomicInteger();
        List<WeakReference<HeldLock>> all = new ArrayList<>();
        Flux.range(0, holds)
                .flatMap(
                        i -> locks.exclusive(LockKey.of(30_000 + i)).guard((HeldLock hold) -> {
                            synchronized (all) {
                                all.add(new WeakReference<>(hold));
                            }
                            hold.lost()
                                    .subscribe(
                                            nothing -> {},
                                            error -> other.incrementAndGet(),
                                            completed::incrementAndGet);
                            return Mono.just(i);
                        }),
                        10)
                .blockLast(Duration.ofSeconds(40));
        assertThat(completed).hasValue(holds);
        assertThat(other).hasValue(0);
        // an idle connection may still know its last holder, the driver its last conversation
        Await.until("collected", () -> {
            System.gc();
            return all.stream().filter(reference -> reference.get() != null).count() <= 20;
        });
    }

    /** A loss that is noticed while its hold ends: whatever the caller is told, the listener is told the same. */
    @Test
    void lossAgainstTheEnd_isToldTheListenerOnce_orNotAtAll() {
        Map<String, Integer> outcomes = new TreeMap<>();
        for (int i = 0; i < 500; i++) {
            String outcome = end(locks.exclusive(A).guard((HeldLock hold) -> {
                Sinks.Empty<Void> both = Sinks.empty();
                Schedulers.parallel().schedule(() -> {
                    both.tryEmitEmpty();
                    ((TransactionHold) hold).lose("planted");
                });
                return both.asMono().publishOn(Schedulers.parallel());
            }));
            outcomes.merge(outcome, 1, Integer::sum);
            int lost = outcomes.getOrDefault("LockLostException", 0);
            // the caller is told first
            Await.until("told", () -> told.lost.size() >= lost);
            assertThat(told.lost).as("round " + i + ": " + outcome).hasSize(lost);
        }
        LOG.info("lost at the end: {}", outcomes);
        assertThat(outcomes).containsOnlyKeys("LockLostException", "completes");
    }

    @Test
    void lossOfGuardedWork_isToldOnce() {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard((HeldLock hold) -> Mono.fromRunnable(() -> terminate(hold))
                                .subscribeOn(Schedulers.boundedElastic())
                                .then(Mono.never()))
                        .block(PATIENCE))
                .isInstanceOf(LockLostException.class);
        Await.until("told", () -> told.lost.size() == 1);
    }
}
